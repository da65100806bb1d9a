"""Tables: pure functions of the records. One object, four faces: CSV, Markdown, LaTeX and HTML (the report's)."""
