"""asv's suites. asv imports every module of this folder by itself: absolute imports only, and nothing else lives here."""
