"""What people look at: pages, charts, tables and videos of runs."""
