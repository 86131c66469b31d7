-- Records of one window become staged rows: the latest record per id and day, and its day.
--
-- `records` has the pipeline's columns and `_seq`, the record's place in the stream. A record that
-- comes again later has a later time; of two with the same time the one that came last counts.
-- `day` counts from 1: second 86400 is the last of day 1.
--
-- The SQL is GoogleSQL: over a table of records BigQuery gives the same rows.
SELECT
  id, time, duration, src_comp, src_port, dst_comp, dst_port, protocol, packet_count, byte_count,
  DIV(time - 1, 86400) + 1 AS day
FROM records
QUALIFY ROW_NUMBER() OVER (
  PARTITION BY id, DIV(time - 1, 86400)
  ORDER BY time DESC, _seq DESC
) = 1
