"""asv's suites. asv imports every module of this folder by itself: absolute imports only, nothing else lives here."""
