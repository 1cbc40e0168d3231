"""A router on day one: forecasts from text and published scores, sharpened by whatever labels come."""
