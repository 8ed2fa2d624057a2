"""`recollect bench`: what a server finds and how fast, through its public API."""
