//! Who talks to whom in the generated flows: computers, ports and durations with their weights.

use std::sync::LazyLock;

/// As in the LANL flows: about 10,100 computers, numbered up to 17,684.
const COMPUTERS: u64 = 10_100;
const COMPUTER_MAX: u64 = 17_684;
/// Anonymised ports run from `N1` to about here.
const N_PORT_MAX: u64 = 16_000;
/// Services that LANL left readable, with the share that each has among them.
const SERVICES: [(&str, u64); 11] = [
    ("80", 25),
    ("445", 22),
    ("443", 14),
    ("389", 11),
    ("88", 10),
    ("53", 6),
    ("139", 4),
    ("135", 4),
    ("123", 2),
    ("2049", 1),
    ("1701", 1),
];

/// The same for every seed; a seed only changes who is drawn when. Built on first use.
pub(super) static WORLD: LazyLock<World> = LazyLock::new(World::new);

/// All lists are in text order, so that a rank compares like the text it stands for.
#[derive(Debug)]
pub(super) struct World {
    /// Seconds; text order, as the flows are sorted.
    pub(super) durations: Vec<u64>,
    pub(super) computers: Vec<Name>,
    pub(super) ports: Vec<Name>,
    pub(super) port_kinds: Vec<PortKind>,
    pub(super) duration: Choice,
    pub(super) computer: Choice,
    pub(super) src_port: Choice,
    /// A service at one end seldom talks to a service at the other: the share depends on the source.
    pub(super) dst_port_for_service: Choice,
    pub(super) dst_port_for_client: Choice,
}

impl World {
    fn new() -> World {
        let mut durations: Vec<(String, u64)> = (0..=60)
            .map(|seconds| {
                let weight = match seconds {
                    0 => 7000,
                    1 => 700,
                    2..=10 => 120,
                    30..=34 | 60 => 40,
                    _ => 12,
                };
                (seconds.to_string(), weight)
            })
            .collect();
        durations.sort();

        let is_computer =
            |number: &u64| number * COMPUTERS / COMPUTER_MAX != (number - 1) * COMPUTERS / COMPUTER_MAX;
        let mut computers: Vec<(String, u64)> = (1..=COMPUTER_MAX)
            .filter(is_computer)
            .map(|number| (format!("C{number}"), mix(number)))
            .collect();
        // Zipf: the weight is one over the rank, and a hash says who has which rank.
        computers.sort_by_key(|(_, hash)| *hash);
        for (rank, (_, weight)) in computers.iter_mut().enumerate() {
            *weight = (1 << 32) / (rank as u64 + 4);
        }
        computers.sort();

        // LANL numbered its ports by how often they occur: the smaller the number, the heavier.
        let n_ports =
            (1..=N_PORT_MAX).map(|number| (format!("N{number}"), (1 << 32) / (number + 100), false));
        let services = SERVICES.iter().map(|(port, weight)| (port.to_string(), *weight, true));
        let mut ports: Vec<(String, u64, bool)> = n_ports.chain(services).collect();
        ports.sort();

        World {
            duration: Choice::new(durations.iter().map(|(_, weight)| *weight)),
            computer: Choice::new(computers.iter().map(|(_, weight)| *weight)),
            src_port: choice_of_ports(&ports, 290),
            dst_port_for_service: choice_of_ports(&ports, 30),
            dst_port_for_client: choice_of_ports(&ports, 495),
            durations: durations.iter().filter_map(|(text, _)| text.parse().ok()).collect(),
            computers: computers.iter().map(|(name, _)| Name::new(name)).collect(),
            port_kinds: ports.iter().map(|(name, ..)| PortKind::of(name)).collect(),
            ports: ports.iter().map(|(name, ..)| Name::new(name)).collect(),
        }
    }
}

/// A short text without a pointer to follow: the names are most of what a record reads from memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name {
    bytes: [u8; 7],
    len: u8,
}

impl Name {
    fn new(text: &str) -> Name {
        let mut bytes = [0; 7];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Name { bytes, len: text.len() as u8 }
    }

    #[inline]
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PortKind {
    /// An `N` and a number.
    Anonymous,
    /// DNS, Kerberos, NTP and LDAP speak both TCP and UDP.
    MaybeUdp,
    Tcp,
}

impl PortKind {
    fn of(port: &str) -> PortKind {
        match port {
            "53" | "88" | "123" | "389" => PortKind::MaybeUdp,
            _ if port.starts_with('N') => PortKind::Anonymous,
            _ => PortKind::Tcp,
        }
    }
}

/// `services_permille` of the draws are services, the others N-ports.
fn choice_of_ports(ports: &[(String, u64, bool)], services_permille: u64) -> Choice {
    let sum_of = |service| ports.iter().filter(|p| p.2 == service).map(|p| p.1).sum::<u64>();
    let (services, clients) = (sum_of(true), sum_of(false));
    Choice::new(ports.iter().map(|(_, weight, is_service)| {
        let (share, sum) =
            if *is_service { (services_permille, services) } else { (1000 - services_permille, clients) };
        (u128::from(share) * (u128::from(*weight) << 32) / u128::from(sum)) as u64
    }))
}

/// A weighted draw that keeps order: a greater number never draws a lesser rank.
#[derive(Debug)]
pub(super) struct Choice {
    /// Where each rank begins, in 2^-32 of the whole.
    starts: Vec<u32>,
    /// 2^64 over the width of each rank: turns what is left of a draw into a full draw.
    scales: Vec<u64>,
    /// The rank that holds the first number with these top bits; the search starts there.
    guide: Vec<u16>,
}

const GUIDE_BITS: u32 = 12;

impl Choice {
    fn new(weights: impl Iterator<Item = u64> + Clone) -> Choice {
        let total: u128 = weights.clone().map(u128::from).sum();
        let mut sum = 0;
        let mut starts = Vec::new();
        for weight in weights {
            starts.push(((sum << 32) / total) as u32);
            sum += u128::from(weight);
        }
        let ends = starts.iter().skip(1).map(|start| u64::from(*start)).chain([1 << 32]);
        let scales =
            starts.iter().zip(ends).map(|(start, end)| u64::MAX / (end - u64::from(*start)).max(1)).collect();
        let guide = (0..1u32 << GUIDE_BITS)
            .map(|top| starts.partition_point(|start| *start <= top << (32 - GUIDE_BITS)) as u16 - 1)
            .collect();
        Choice { starts, scales, guide }
    }

    /// The rank that `draw` falls on, and where within that rank, stretched to 64 bits again.
    #[inline]
    pub(super) fn pick(&self, draw: u64) -> (usize, u64) {
        let high = (draw >> 32) as u32;
        let mut rank = usize::from(self.guide[(high >> (32 - GUIDE_BITS)) as usize]);
        while self.starts.get(rank + 1).is_some_and(|start| *start <= high) {
            rank += 1;
        }
        let within = draw - (u64::from(self.starts[rank]) << 32);
        (rank, ((u128::from(within) * u128::from(self.scales[rank])) >> 32) as u64)
    }
}

/// SplitMix64's finaliser: every bit of the result depends on every bit of the input.
#[inline]
pub(super) fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
