"""Fits what `eccos_rs.predict.prior` reads: difficulty curves, categories and lengths from public answers."""
