"""What a log, or a whole demo, says: tables, figures, pages."""
