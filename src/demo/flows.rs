//! Generates flows that look like the LANL flows, any window of them without those before it.
//!
//! # Why hashes instead of a random number generator?
//!
//! A generator has to run from its seed to the record one wants, and a window in the middle of the
//! data must not cost what lies before it. So nothing here has a state: how many records lie before a
//! second is a small table and a formula, and everything about a record is a hash of the seed and its
//! id. A record that repeats an earlier one finds that one the same way.

use std::sync::Arc;

use bytes::Bytes;

use super::render::{self, Body, Flow};
use super::world::{PortKind, WORLD, mix};

const DAY_MINUTES: usize = 1440;
/// LANL's last day that holds flows, 1-based.
const DAYS_MAX: u32 = 37;
/// Keeps every product below in 64 bits, and is eight thousand times the real data.
const ROWS_MAX: u64 = 1 << 40;
/// Load per hour of the day; the minutes within vary by half.
const HOURS: [u64; 24] = [
    55, 50, 48, 46, 45, 48, 60, 80, 105, 125, 135, 140, 138, 140, 142, 140, 132, 118, 100, 88, 80, 72, 66, 60,
];

/// Generated flows: the same four values always give the same bytes.
#[derive(Debug, Clone)]
pub struct Flows {
    /// Records over all days, those that repeat an earlier id included.
    pub rows: u64,
    /// Last 1-based day that may hold flows; like LANL's, days 25, 26, 31 to 36 and from 38 on are empty.
    pub days: u32,
    /// Share of the records that repeat an earlier id, 0 to 0.5. No id comes twice in one second.
    pub duplicates: f64,
    pub seed: u64,
}

impl Flows {
    /// The records with `after < time <= before` as a response body, in chunks of about 64 KiB.
    pub fn chunks(
        &self,
        after: u64,
        before: u64,
        limit: Option<u64>,
        body: Body,
    ) -> impl Iterator<Item = Bytes> + Send + 'static + use<> {
        chunks(Arc::new(self.plan()), after, before, limit, body)
    }

    /// Records that `chunks` gives when there is no limit.
    pub fn count(&self, after: u64, before: u64) -> u64 {
        self.plan().count(after, before)
    }

    pub(super) fn plan(&self) -> Plan {
        Plan::new(self)
    }
}

pub(super) fn chunks(
    plan: Arc<Plan>,
    after: u64,
    before: u64,
    limit: Option<u64>,
    body: Body,
) -> impl Iterator<Item = Bytes> + Send + 'static {
    let mut rows = Rows::new(plan, after, before);
    render::chunks(body, limit, move |out, body| match rows.next() {
        Some(row) => {
            row.as_flow().write(out, body);
            true
        }
        None => false,
    })
}

/// Where every record lies: a slot is the 0-based place of a record in the whole stream.
#[derive(Debug)]
pub(super) struct Plan {
    seed: u64,
    /// Slots before each minute; one more entry than minutes.
    minutes: Vec<u64>,
    /// Slots before this one hold no repeats: there must be something to repeat.
    first_repeat: u64,
    /// Share of repeats from there on, in 2^-32.
    repeats: u64,
}

impl Plan {
    fn new(flows: &Flows) -> Plan {
        let rows = flows.rows.min(ROWS_MAX);
        let seed = mix(flows.seed);
        let mut minutes = vec![0];
        let days = flows.days.clamp(1, DAYS_MAX) as usize;
        for day in split(0, rows, (0..days).map(|day| day_weight(seed, day))).windows(2) {
            let first = minutes.len() - 1;
            let weights = (0..DAY_MINUTES).map(|minute| {
                HOURS[minute / 60] * (50 + draw(seed, Of::Minute, (first + minute) as u64) % 101)
            });
            minutes.extend(&split(day[0], day[1] - day[0], weights)[1..]);
        }
        // An hour of flows is many times what any one second repeats.
        let first_repeat = (minutes[60] + 8).min(rows);
        let share = flows.duplicates.clamp(0.0, 0.5) * rows as f64 / (rows - first_repeat).max(1) as f64;
        // NaN ends as 0.
        let repeats = (share.clamp(0.0, 0.75) * (1u64 << 32) as f64) as u64;
        Plan { seed, minutes, first_repeat, repeats }
    }

    pub(super) fn count(&self, after: u64, before: u64) -> u64 {
        self.slots_before(before).saturating_sub(self.slots_before(after))
    }

    /// Slots before the 0-based second `second`, which is the records whose time is at most `second`.
    fn slots_before(&self, second: u64) -> u64 {
        let (minute, second) = (second / 60, second % 60);
        match usize::try_from(minute) {
            Ok(minute) if minute + 1 < self.minutes.len() => self.slots_before_in(minute, second),
            _ => self.rows(),
        }
    }

    fn slots_before_in(&self, minute: usize, second: u64) -> u64 {
        if second == 0 {
            return self.minutes[minute];
        }
        // A minute's seconds end at even steps, each moved back by up to a step: some seconds hold
        // twice the mean and some next to nothing, without a table.
        let step = (1 << 16) / 60;
        let end = second * step - draw(self.seed, Of::Second, minute as u64 * 60 + second) % step;
        let total = self.minutes[minute + 1] - self.minutes[minute];
        self.minutes[minute] + (total * end).div_ceil(1 << 16)
    }

    fn rows(&self) -> u64 {
        self.minutes[self.minutes.len() - 1]
    }

    /// Ids that were given out before `slot`; each other slot before it repeats one of these.
    fn ids_before(&self, slot: u64) -> u64 {
        let after_first = u128::from(slot.saturating_sub(self.first_repeat));
        slot - ((after_first * u128::from(self.repeats)) >> 32) as u64
    }

    /// The slot that brings `ids_before` to `id`: the inverse of that formula.
    fn slot_of(&self, id: u64) -> u64 {
        match (id - 1).checked_sub(self.first_repeat) {
            None => id - 1,
            Some(id) => {
                let new = (1u128 << 32) - u128::from(self.repeats);
                self.first_repeat + ((u128::from(id) << 32) / new) as u64
            }
        }
    }

    /// The row that first had this id.
    fn original(&self, id: u64) -> Row {
        let slot = self.slot_of(id);
        let minute = self.minutes.partition_point(|start| *start <= slot) - 1;
        let (mut low, mut high) = (0, 60);
        while high - low > 1 {
            let middle = (low + high) / 2;
            if self.slots_before_in(minute, middle) <= slot { low = middle } else { high = middle }
        }
        Second::new(self, minute as u64 * 60 + low).row(self.seed, id)
    }
}

/// The slots before each part and at the end, when `total` slots go to parts of these weights.
///
/// Rounds up: the first second of the data, and of each day, then holds a record.
fn split(first: u64, total: u64, weights: impl Iterator<Item = u64> + Clone) -> Vec<u64> {
    let whole: u128 = weights.clone().map(u128::from).sum();
    let mut sum = 0;
    let mut slots = vec![first];
    for weight in weights {
        sum += u128::from(weight);
        slots.push(first + (u128::from(total) * sum).div_ceil(whole) as u64);
    }
    slots
}

/// Days 0 to 8 hold 59.8 % of LANL's flows, the 20 days after them the rest.
fn day_weight(seed: u64, day: usize) -> u64 {
    let weight = match day {
        0..=8 => 664,
        24 | 25 | 30..=35 => 0,
        _ => 201,
    };
    weight * (90 + draw(seed, Of::Day, day as u64) % 21)
}

/// One second's worth of new ids.
#[derive(Debug)]
struct Second {
    time: u64,
    slots: std::ops::Range<u64>,
    ids: std::ops::Range<u64>,
    /// The ids of a second divide the draws among them evenly and in order, which sorts the rows.
    draws_per_id: u64,
}

impl Second {
    /// `second` is 0-based; the time in it is one more.
    fn new(plan: &Plan, second: u64) -> Second {
        let slots = plan.slots_before(second)..plan.slots_before(second + 1);
        let ids = plan.ids_before(slots.start) + 1..plan.ids_before(slots.end) + 1;
        let draws_per_id = u64::MAX / (ids.end - ids.start).max(1);
        Second { time: second + 1, slots, ids, draws_per_id }
    }

    /// What is left of each draw draws the next field: rows then sort as text by all five fields.
    fn row(&self, seed: u64, id: u64) -> Row {
        let world = &*WORLD;
        let within = u128::from(draw(seed, Of::Who, id)) * u128::from(self.draws_per_id);
        let place = (id - self.ids.start) * self.draws_per_id + (within >> 64) as u64;
        let (duration, place) = world.duration.pick(place);
        let (src_comp, place) = world.computer.pick(place);
        let (src_port, place) = world.src_port.pick(place);
        let (dst_comp, place) = world.computer.pick(place);
        let dst_ports = match world.port_kinds[src_port] {
            PortKind::Anonymous => &world.dst_port_for_client,
            PortKind::MaybeUdp | PortKind::Tcp => &world.dst_port_for_service,
        };
        let (dst_port, _) = dst_ports.pick(place);

        let how = draw(seed, Of::How, id);
        let packet_count = packets(how);
        Row {
            id,
            time: self.time,
            duration: duration as u16,
            src_comp: src_comp as u16,
            src_port: src_port as u16,
            dst_comp: dst_comp as u16,
            dst_port: dst_port as u16,
            protocol: protocol(world.port_kinds[src_port], world.port_kinds[dst_port], how >> 56),
            packet_count,
            byte_count: bytes(packet_count, how >> 28),
        }
    }
}

/// One record; durations, computers and ports are ranks in text order.
#[derive(Debug, Clone)]
struct Row {
    id: u64,
    time: u64,
    duration: u16,
    src_comp: u16,
    src_port: u16,
    dst_comp: u16,
    dst_port: u16,
    protocol: u64,
    packet_count: u64,
    byte_count: u64,
}

impl Row {
    fn sort_key(&self) -> [u16; 5] {
        [self.duration, self.src_comp, self.src_port, self.dst_comp, self.dst_port]
    }

    fn as_flow(&self) -> Flow<'static> {
        let world = &*WORLD;
        Flow {
            id: self.id,
            time: self.time,
            duration: world.durations[usize::from(self.duration)],
            src_comp: world.computers[usize::from(self.src_comp)].as_bytes(),
            src_port: world.ports[usize::from(self.src_port)].as_bytes(),
            dst_comp: world.computers[usize::from(self.dst_comp)].as_bytes(),
            dst_port: world.ports[usize::from(self.dst_port)].as_bytes(),
            protocol: self.protocol,
            packet_count: self.packet_count,
            byte_count: self.byte_count,
        }
    }
}

/// The rows of a window in stream order. Holds the repeats of one second, nothing else.
#[derive(Debug)]
struct Rows {
    plan: Arc<Plan>,
    /// The next 0-based second to begin, and the one to stop at.
    next_second: u64,
    end_second: u64,
    second: Second,
    next_id: u64,
    next_new: Option<Row>,
    /// Sorted; the last comes first.
    repeats: Vec<Row>,
}

impl Rows {
    fn new(plan: Arc<Plan>, after: u64, before: u64) -> Rows {
        let end_second = before.min((plan.minutes.len() as u64 - 1) * 60);
        let second = Second { time: 0, slots: 0..0, ids: 0..0, draws_per_id: 0 };
        Rows { plan, next_second: after, end_second, second, next_id: 0, next_new: None, repeats: Vec::new() }
    }

    fn next(&mut self) -> Option<Row> {
        loop {
            if self.next_new.is_none() && self.next_id < self.second.ids.end {
                self.next_new = Some(self.second.row(self.plan.seed, self.next_id));
                self.next_id += 1;
            }
            match (&self.next_new, self.repeats.last()) {
                (Some(new), Some(repeat)) if repeat.sort_key() < new.sort_key() => return self.repeats.pop(),
                (Some(_), _) => return self.next_new.take(),
                (None, Some(_)) => return self.repeats.pop(),
                (None, None) if self.next_second < self.end_second => self.begin_second(),
                (None, None) => return None,
            }
        }
    }

    fn begin_second(&mut self) {
        self.second = Second::new(&self.plan, self.next_second);
        self.next_second += 1;
        let Second { time, slots, ids, .. } = &self.second;
        self.next_id = ids.start;
        let num_repeats = (slots.end - slots.start) - (ids.end - ids.start);
        let ids_before = ids.start - 1;
        for index in 0..num_repeats {
            self.repeats.push(repeat(&self.plan, *time, ids_before, index, num_repeats));
        }
        self.repeats.sort_by_key(|row| std::cmp::Reverse(row.sort_key()));
    }
}

/// A flow seen again: repeat `index` of the `num` in this second. It has grown since.
fn repeat(plan: &Plan, time: u64, ids_before: u64, index: u64, num: u64) -> Row {
    let hash = draw(plan.seed, Of::Repeat, (time << 32) ^ index);
    // How far back is log-uniform: most repeats follow soon and some only days later. The remainder
    // modulo `num` differs for each repeat of a second, so no two of them are of the same id.
    let steps = ids_before.saturating_sub(index + 1) / num + 1;
    let steps_back = (hash >> 8) & ((1 << ((hash & 0xff) % u64::from(steps.ilog2() + 1))) - 1);
    let back = index + num * steps_back;
    let original = plan.original(ids_before.saturating_sub(back).max(1));
    let more = mix(hash);
    let more_packets = packets(more);
    Row {
        time,
        duration: WORLD.duration.pick(mix(more)).0 as u16,
        packet_count: original.packet_count + more_packets,
        byte_count: original.byte_count + bytes(more_packets, more >> 28),
        ..original
    }
}

/// Log-normal in looks: a sum of coin flips is the exponent. From 1 to 1,984, half of them below 8.
fn packets(hash: u64) -> u64 {
    let exponent = (hash & 0xffff).count_ones();
    (((16 + ((hash >> 16) & 15)) << exponent) >> 10).max(1)
}

/// 46 bytes is the smallest packet that LANL saw; a full one has 1,500.
fn bytes(packets: u64, hash: u64) -> u64 {
    let exponent = (hash & 0xfff).count_ones();
    let more_per_16_packets = ((16 + ((hash >> 12) & 0xff)) << exponent) / 4;
    packets * 46 + (packets * more_per_16_packets.min(1454 * 16)) / 16
}

/// ICMP only between anonymous ports; UDP often where the service speaks it; else TCP.
fn protocol(src: PortKind, dst: PortKind, byte: u64) -> u64 {
    if byte < 6 && src == PortKind::Anonymous && dst == PortKind::Anonymous {
        1
    } else if byte < 180 && (src == PortKind::MaybeUdp || dst == PortKind::MaybeUdp) {
        17
    } else {
        6
    }
}

/// What a hash is for: two uses of the same number must not see the same hash.
#[derive(Clone, Copy)]
enum Of {
    Day = 1,
    Minute,
    Second,
    Who,
    How,
    Repeat,
}

#[inline]
fn draw(seed: u64, of: Of, index: u64) -> u64 {
    mix(seed ^ index ^ ((of as u64) << 56))
}

#[cfg(test)]
mod tests;
