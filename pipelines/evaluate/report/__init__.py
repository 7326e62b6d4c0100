"""An evaluation as one HTML page: people's and a judge's scores, pairs, measures, categories, and the videos."""
