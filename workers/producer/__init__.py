"""Files of events or items to topics: JSON lines, CSV, TSV, Parquet, folders of them, standard input."""
