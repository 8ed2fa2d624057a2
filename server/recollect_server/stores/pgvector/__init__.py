"""pgvector: vectors in a table of the PostgreSQL that holds everything else."""
