"""Files of events or items to topics: JSON lines, CSV, TSV, Parquet, folders of them, standard input.

`source` opens a file and looks at its start, `lines` cuts it into bounded lines, `json_rows`, `table_rows` and `parquet_rows` make rows of
it, `mapping` turns a row into the fields of a record, `publish` sends them and counts. Every row is published or refused: the two counts
add up to the rows that were read.
"""
