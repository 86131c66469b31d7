//! Small inserts leave small files: sixteen neighbours of a size become one of the next.

use std::path::Path;

use crate::emulator::fields::arrow_schema;
use crate::emulator::files::{RowsWriter, Rule, read_part};
use crate::emulator::partitions::Partition;
use crate::emulator::versions::{Part, Version};
use crate::emulator::wire::Outcome;

/// Each row is written again at most once for each of these.
const SIZES: [u64; 3] = [256, 4096, 65_536];
const NEIGHBOURS: usize = 16;

/// Merges what the newest rows of each partition are in, keeping their order. What fails is left as it is.
pub(super) fn compact(version: &mut Version, dir: &Path) {
    let mut partitions: Vec<Partition> = version.parts.iter().map(|p| p.partition).collect();
    partitions.sort_unstable();
    partitions.dedup();
    for partition in partitions {
        for size in SIZES {
            let run = trailing(&version.parts, partition, size);
            if run.len() < NEIGHBOURS {
                continue;
            }
            match merged(version, &run, partition, dir) {
                Ok(Some(part)) => {
                    version.parts[run[0]] = part;
                    let mut index = 0;
                    version.parts.retain(|_| {
                        index += 1;
                        !run[1..].contains(&(index - 1))
                    });
                }
                Ok(None) => {}
                Err(failure) => tracing::warn!(error = failure.message, "cannot merge small files"),
            }
        }
    }
}

/// The partition's last parts, in order, as long as they are smaller than `rows`.
fn trailing(parts: &[Part], partition: Partition, rows: u64) -> Vec<usize> {
    let own = parts.iter().enumerate().rev().filter(|(_, part)| part.partition == partition);
    let mut run: Vec<usize> = own.take_while(|(_, part)| part.rows < rows).map(|(index, _)| index).collect();
    run.reverse();
    run
}

fn merged(version: &Version, run: &[usize], partition: Partition, dir: &Path) -> Outcome<Option<Part>> {
    let schema = arrow_schema(&version.definition.fields);
    let mut writer = RowsWriter::new(dir, schema.clone(), Rule::Fixed(partition));
    for index in run {
        for batch in read_part(&version.parts[*index], &schema, 0, None)? {
            writer.write(&batch?)?;
        }
    }
    Ok(writer.finish()?.pop())
}
