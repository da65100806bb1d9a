"""The harness: laws, jobs, records, statistics, claims, tables, plots and the report. It knows no paper by name."""
