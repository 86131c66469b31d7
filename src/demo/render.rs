//! Writes flow records as the source API sends them: XML or newline-delimited JSON, in chunks.

use bytes::Bytes;

/// 64 KiB: some 250 records, large against the cost of one write, small against any client's patience.
const CHUNK_BYTES: usize = 64 << 10;
/// Room for the record that crosses the chunk's end, so that the buffer need not grow.
const RECORD_BYTES: usize = 512;

/// How a response body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    Xml,
    Ndjson,
}

/// One record, its text (UTF-8) borrowed from wherever it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flow<'a> {
    pub(super) id: u64,
    pub(super) time: u64,
    pub(super) duration: u64,
    pub(super) src_comp: &'a [u8],
    pub(super) src_port: &'a [u8],
    pub(super) dst_comp: &'a [u8],
    pub(super) dst_port: &'a [u8],
    pub(super) protocol: u64,
    pub(super) packet_count: u64,
    pub(super) byte_count: u64,
}

/// A whole response body. `write_next` appends one more record, or says that there is none.
pub(super) fn chunks(
    body: Body,
    limit: Option<u64>,
    mut write_next: impl FnMut(&mut Vec<u8>, Body) -> bool,
) -> impl Iterator<Item = Bytes> {
    let limit = limit.unwrap_or(u64::MAX);
    let mut num_records = 0;
    let mut ended = false;
    std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let mut out = Vec::with_capacity(CHUNK_BYTES + RECORD_BYTES);
        while out.len() < CHUNK_BYTES {
            let before_record = out.len();
            if body == Body::Xml {
                out.extend_from_slice(match num_records {
                    0 => b"<?xml version='1.0' encoding='UTF-8'?><records>",
                    _ => b"\n",
                });
            }
            if num_records == limit || !write_next(&mut out, body) {
                out.truncate(before_record);
                ended = true;
                break;
            }
            num_records += 1;
        }
        if ended && body == Body::Xml {
            out.extend_from_slice(match num_records {
                0 => b"<?xml version='1.0' encoding='UTF-8'?><records/>",
                _ => b"</records>",
            });
        }
        (!out.is_empty()).then(|| Bytes::from(out))
    })
}

impl Flow<'_> {
    pub(super) fn write(&self, out: &mut Vec<u8>, body: Body) {
        match body {
            Body::Xml => self.write_xml(out),
            Body::Ndjson => self.write_json_line(out),
        }
    }

    fn write_xml(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"<record><id>");
        write_number(out, self.id);
        out.extend_from_slice(b"</id><time>");
        write_number(out, self.time);
        out.extend_from_slice(b"</time><duration>");
        write_number(out, self.duration);
        out.extend_from_slice(b"</duration><src_comp>");
        write_xml_text(out, self.src_comp);
        out.extend_from_slice(b"</src_comp><src_port>");
        write_xml_text(out, self.src_port);
        out.extend_from_slice(b"</src_port><dst_comp>");
        write_xml_text(out, self.dst_comp);
        out.extend_from_slice(b"</dst_comp><dst_port>");
        write_xml_text(out, self.dst_port);
        out.extend_from_slice(b"</dst_port><protocol>");
        write_number(out, self.protocol);
        out.extend_from_slice(b"</protocol><packet_count>");
        write_number(out, self.packet_count);
        out.extend_from_slice(b"</packet_count><byte_count>");
        write_number(out, self.byte_count);
        out.extend_from_slice(b"</byte_count></record>");
    }

    fn write_json_line(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"id\":");
        write_number(out, self.id);
        out.extend_from_slice(b",\"time\":");
        write_number(out, self.time);
        out.extend_from_slice(b",\"duration\":");
        write_number(out, self.duration);
        out.extend_from_slice(b",\"src_comp\":");
        write_json_text(out, self.src_comp);
        out.extend_from_slice(b",\"src_port\":");
        write_json_text(out, self.src_port);
        out.extend_from_slice(b",\"dst_comp\":");
        write_json_text(out, self.dst_comp);
        out.extend_from_slice(b",\"dst_port\":");
        write_json_text(out, self.dst_port);
        out.extend_from_slice(b",\"protocol\":");
        write_number(out, self.protocol);
        out.extend_from_slice(b",\"packet_count\":");
        write_number(out, self.packet_count);
        out.extend_from_slice(b",\"byte_count\":");
        write_number(out, self.byte_count);
        out.extend_from_slice(b"}\n");
    }
}

/// `format!` costs more than the rest of a record together.
fn write_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn write_xml_text(out: &mut Vec<u8>, text: &[u8]) {
    if !text.iter().any(|&b| matches!(b, b'&' | b'<' | b'>' | b'\r')) {
        return out.extend_from_slice(text);
    }
    for &byte in text {
        match byte {
            b'&' => out.extend_from_slice(b"&amp;"),
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            b'\r' => out.extend_from_slice(b"&#13;"),
            _ => out.push(byte),
        }
    }
}

fn write_json_text(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    if !text.iter().any(|&b| b < b' ' || b == b'"' || b == b'\\') {
        out.extend_from_slice(text);
    } else {
        for &byte in text {
            match byte {
                b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
                0..b' ' => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
                _ => out.push(byte),
            }
        }
    }
    out.push(b'"');
}
