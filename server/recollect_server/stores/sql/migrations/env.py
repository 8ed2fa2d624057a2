"""Alembic's entry point: run the migrations on the engine that `migrate` hands over."""

from alembic import context

MIGRATION_LOCK = 0x5245434F  # any number that no other program locks

with context.config.attributes["engine"].connect() as connection:
    # Two processes that start at once must not both create the schema.
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA busy_timeout = 30000")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
