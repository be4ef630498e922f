use http::uri::Authority;

use super::reference::{Table, check, decode, encode_huffman};
use super::{CONTINUATION, END_HEADERS, HEADERS, PADDED, PRIORITY};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;

/// Authorities that clients have sent, and what each becomes, plain and in Huffman codes.
const SEEN: [(&str, &str, &str); 8] = [
    // grpcio: `unix:/run/procpool.sock`.
    ("run%2Fprocpool.sock", "run-2Fprocpool.sock", "run.2Fprocpool.sock"),
    // grpcurl, and a dialer of one's own with grpc-go.
    ("/run/procpool.sock", "-run-procpool.sock", "3run3procpool.sock"),
    ("/tmp/pool 1/a:b%20.sock", "-tmp-pool-1-a-b-20.sock", "3tmp3pool-13aBb.20.sock"),
    ("./procpool.sock", ".-procpool.sock", ".3procpool.sock"),
    ("localhost", "localhost", "localhost"),
    ("127.0.0.1:50051", "127.0.0.1:50051", "127.0.0.1:50051"),
    ("[::1]:50051", "[::1]:50051", "[::1]:50051"),
    ("", "", ""),
];

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
}

/// Encodes an integer behind the bits that stand before it.
fn integer(value: usize, prefix_bits: u32, before: u8) -> Vec<u8> {
    let mask = (1 << prefix_bits) - 1;
    if value < mask {
        return vec![before | u8::try_from(value).unwrap()];
    }
    let (mut encoded, mut rest) = (vec![before | u8::try_from(mask).unwrap()], value - mask);
    while rest >= 0x80 {
        encoded.push(u8::try_from(rest % 0x80).unwrap() | 0x80);
        rest /= 0x80;
    }
    encoded.push(u8::try_from(rest).unwrap());
    encoded
}

fn string(text: &[u8], is_huffman: bool) -> Vec<u8> {
    let coded = if is_huffman { encode_huffman(text) } else { text.to_vec() };
    [integer(coded.len(), 7, if is_huffman { 0x80 } else { 0 }), coded].concat()
}

#[test]
fn what_clients_send_becomes_an_authority() {
    for (sent, plain, huffman) in SEEN {
        for (is_huffman, expected) in [(false, plain), (true, huffman)] {
            // By its index, and by its name.
            let by_name = [vec![0x40], string(b":authority", is_huffman)].concat();
            for name in [vec![0x41], vec![0x01], vec![0x11], by_name] {
                let block = [name, string(sent.as_bytes(), is_huffman)].concat();
                let connection = [PREFACE, &frame(HEADERS, END_HEADERS, &block)].concat();
                let fields = decode(&check(&connection, &[]));
                assert_eq!(fields, [(b":authority".to_vec(), expected.as_bytes().to_vec())]);
                assert!(expected.is_empty() || expected.parse::<Authority>().is_ok(), "{expected}");
            }
        }
    }
}

#[test]
fn other_fields_may_have_paths() {
    let path = || string(b"/procpool.v1.PoolService/Map", true);
    let block = [vec![0x44], path(), vec![0x00], string(b"x-authority", true), path()].concat();
    let connection = [PREFACE, &frame(HEADERS, END_HEADERS, &block)].concat();
    assert_eq!(check(&connection, &[]), connection);
}

/// Numbers that look as if by chance, the same for the same seed (xorshift).
struct Chance(u64);

impl Chance {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn text(&mut self, alphabet: &[u8], max_length: usize) -> Vec<u8> {
        (0..self.below(max_length)).map(|_| alphabet[self.below(alphabet.len())]).collect()
    }

    fn pieces(&mut self) -> Vec<usize> {
        let largest = [1, 2, 7, 64, 4096][self.below(5)];
        (0..50).map(|_| self.below(largest) + 1).collect()
    }

    /// Returns a field, and keeps the table as a decoder does.
    fn field(&mut self, table: &mut Table) -> Vec<u8> {
        let known: Vec<usize> = table.entries().map(|(index, _)| index).collect();
        if self.one_in(4) && !known.is_empty() {
            return integer(known[self.below(known.len())], 7, 0x80);
        }
        let value = match self.below(4) {
            0 => self.text(b"/abz0%:-. 127", 40),
            1 => self.text(&(0..=255).collect::<Vec<u8>>(), 150),
            _ => SEEN[self.below(SEEN.len())].0.as_bytes().to_vec(),
        };
        let (is_kept, is_huffman) = (self.one_in(2), !self.one_in(3));
        let (bits, before) = if is_kept { (6, 0x40) } else { (4, [0x00, 0x10][self.below(2)]) };
        let (name, encoded_name) = match self.below(4) {
            0 => {
                let name = if self.one_in(2) { b":authority".to_vec() } else { self.text(b"abc-:", 12) };
                let encoded = [integer(0, bits, before), string(&name, self.one_in(2))].concat();
                (name, encoded)
            }
            1 => {
                let index = self.below(60) + 2;
                (format!("static-{index}").into_bytes(), integer(index, bits, before))
            }
            _ => (b":authority".to_vec(), integer(1, bits, before)),
        };
        let encoded = [encoded_name, string(&value, is_huffman)].concat();
        if is_kept {
            table.add((name, value));
        }
        encoded
    }

    fn block(&mut self, table: &mut Table) -> Vec<u8> {
        let mut block = Vec::new();
        if self.one_in(8) {
            let max_bytes = self.below(5000);
            table.resize(max_bytes);
            block.extend(integer(max_bytes, 5, 0x20));
        }
        for _ in 0..self.below(6) {
            block.extend(self.field(table));
        }
        block
    }

    /// Returns the frames of a header block.
    fn headers(&mut self, block: &[u8]) -> Vec<u8> {
        let (mut flags, mut lead, mut padding) = (0, Vec::new(), 0);
        if self.one_in(3) {
            padding = self.below(20);
            flags |= PADDED;
            lead.push(u8::try_from(padding).unwrap());
        }
        if self.one_in(3) {
            flags |= PRIORITY;
            lead.extend([0, 0, 0, 0, 16]);
        }
        let parts: Vec<&[u8]> = if self.one_in(3) { block.chunks(self.below(9) + 1).collect() } else { vec![block] };
        let [first, others @ ..] = &parts[..] else { return frame(HEADERS, END_HEADERS, b"") };
        let end = |is_last: bool| if is_last { END_HEADERS } else { 0 };
        let padded = [&lead, *first, &vec![b'/'; padding]].concat();
        let mut frames = frame(HEADERS, flags | end(others.is_empty()), &padded);
        for (index, part) in others.iter().enumerate() {
            frames.extend(frame(CONTINUATION, end(index + 1 == others.len()), part));
        }
        frames
    }

    fn connection(&mut self) -> Vec<u8> {
        let (mut connection, mut table) = (PREFACE.to_vec(), Table::default());
        for _ in 0..=self.below(12) {
            let block = self.block(&mut table);
            connection.extend(self.headers(&block));
            if self.one_in(2) {
                // What looks like fields, and is none.
                let data = self.text(b"\x41\x82/%\x01\x25", 50);
                connection.extend(frame(DATA, self.below(256).try_into().unwrap(), &data));
            }
        }
        connection
    }
}

#[test]
fn nothing_but_authorities_changes_whatever_the_pieces() {
    let mut num_authorities = 0;
    for seed in 1..=500 {
        let mut chance = Chance::new(seed);
        let connection = chance.connection();
        let edited = decode(&check(&connection, &chance.pieces()));
        let originals: Vec<&str> = SEEN.iter().map(|(sent, ..)| *sent).filter(|sent| !sent.is_empty()).collect();
        for (before, after) in decode(&connection).iter().zip(&edited).filter(|(before, _)| before.0 == b":authority") {
            if originals.iter().any(|sent| sent.as_bytes() == before.1) {
                assert!(
                    Authority::try_from(&after.1[..]).is_ok(),
                    "seed {seed}: {:?}",
                    after.1.escape_ascii().to_string()
                );
                num_authorities += 1;
            }
        }
    }
    assert!(num_authorities > 1000, "{num_authorities}");
}

#[test]
fn what_is_malformed_is_left_alone_from_there_on() {
    for seed in 1..=500 {
        let mut chance = Chance::new(seed);
        let mut connection = chance.connection();
        for _ in 0..=chance.below(5) {
            let at = chance.below(connection.len());
            connection[at] = u8::try_from(chance.below(256)).unwrap();
        }
        connection.truncate(chance.below(connection.len()) + 1);
        check(&connection, &chance.pieces());
    }
}
