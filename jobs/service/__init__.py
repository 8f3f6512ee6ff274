"""The service behind `lore serve`: judgments, search and features over HTTP. `app.Service` puts its parts together."""
