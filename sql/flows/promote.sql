-- Production: the latest record per id over the last days of staging.
--
-- `{staging_table}` stands for `warehouse.staging_table`, @first_day and @last_day for the range.
-- Where windows append, a day may hold an id several times. The order is total, so that the same
-- staging always gives the same production: of two records with one time, the one that has grown.
-- What was not seen in these days drops out.
SELECT
  id, time, duration, src_comp, src_port, dst_comp, dst_port, protocol, packet_count, byte_count
FROM `{staging_table}`
WHERE _PARTITIONTIME BETWEEN @first_day AND @last_day
QUALIFY ROW_NUMBER() OVER (
  PARTITION BY id
  ORDER BY
    _PARTITIONTIME DESC, time DESC, packet_count DESC, byte_count DESC, duration DESC,
    src_comp DESC, src_port DESC, dst_comp DESC, dst_port DESC, protocol DESC
) = 1
