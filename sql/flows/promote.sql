-- Production: the latest record per id over the last days of staging.
--
-- `{staging_table}` stands for `warehouse.staging_table`, @first_day and @last_day for the range.
-- Staging holds one record per id and partition, so the newest partition decides and no two
-- records tie. What was not seen in these days drops out.
SELECT
  id, time, duration, src_comp, src_port, dst_comp, dst_port, protocol, packet_count, byte_count
FROM `{staging_table}`
WHERE _PARTITIONTIME BETWEEN @first_day AND @last_day
QUALIFY ROW_NUMBER() OVER (
  PARTITION BY id
  ORDER BY _PARTITIONTIME DESC
) = 1
