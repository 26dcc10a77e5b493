"""Shows runs to people: report pages, charts, tables and videos."""
