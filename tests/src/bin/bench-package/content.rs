//! What the generated applications hold: text, data and programs made of a seed alone, about as compressible as the files
//! that applications ship.

/// SplitMix64 (<https://prng.di.unimi.it/splitmix64.c>): the same seed gives the same numbers on every machine.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `below` - 1.
    pub(crate) fn below(&mut self, below: usize) -> usize {
        // The bias is nothing here, and the modulo of a usize fits.
        (self.next() % below.max(1) as u64) as usize
    }

    /// Small numbers more often than large ones, as words are used.
    fn skewed(&mut self, below: usize) -> usize {
        let (one, other) = (self.below(below), self.below(below));
        one.min(other).min(self.below(below))
    }

    fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        let at = self.below(words.len());
        words.get(at).copied().unwrap_or_default()
    }

    /// From 1 to `span`, evenly on a logarithmic scale.
    pub(crate) fn logarithmic(&mut self, span: f64) -> f64 {
        let part = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        span.powf(part)
    }
}

/// What a file is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A module of a program, as people write it.
    Source,
    /// A description of an API, or a lock file.
    Json,
    /// A compiled library.
    Library,
    /// What is compressed already.
    Noise,
}

/// Exactly `size` bytes of that kind.
pub(crate) fn content(kind: Kind, size: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut out = Vec::with_capacity(size + 1024);
    match kind {
        Kind::Source => source(&mut out, size, &mut random),
        Kind::Json => json(&mut out, size, &mut random),
        Kind::Library => library(&mut out, size, &mut random),
        Kind::Noise => noise(&mut out, size, &mut random),
    }
    out.truncate(size);
    out
}

const SYLLABLES: [&str; 48] = [
    "ac", "ad", "al", "an", "ap", "ar", "at", "ba", "ca", "ce", "ch", "co", "de", "di", "ed", "el", "en", "er", "es",
    "ex", "fi", "fo", "ge", "ha", "id", "in", "io", "is", "it", "le", "li", "lo", "ma", "me", "ne", "on", "or", "pa",
    "qu", "re", "se", "st", "te", "ti", "to", "un", "ve", "wi",
];
const KEYWORDS: [&str; 24] = [
    "return ", "if ", "self.", "not ", "for ", " in ", "None", "def ", "raise ", "else:", "import ", "from ", "with ",
    "True", "False", "try:", "yield ", "class ", "and ", "or ", "await ", "lambda ", "assert ", "is ",
];
const MARKS: [&str; 12] = ["(", ")", " = ", ", ", ".", ": ", "[", "]", "\"", " == ", " + ", "'"];
const PROSE: [&str; 60] = [
    "the ",
    "of ",
    "a ",
    "to ",
    "is ",
    "in ",
    "and ",
    "that ",
    "for ",
    "be ",
    "this ",
    "with ",
    "not ",
    "are ",
    "value ",
    "when ",
    "if ",
    "it ",
    "as ",
    "by ",
    "on ",
    "or ",
    "object ",
    "from ",
    "an ",
    "which ",
    "will ",
    "given ",
    "request ",
    "used ",
    "returned ",
    "response ",
    "can ",
    "should ",
    "name ",
    "default ",
    "type ",
    "client ",
    "only ",
    "call ",
    "each ",
    "list ",
    "empty ",
    "must ",
    "error ",
    "header ",
    "string ",
    "number ",
    "before ",
    "after ",
    "the same ",
    "connection ",
    "option ",
    "timeout ",
    "optional ",
    "key ",
    "region ",
    "token ",
    "stream ",
    "signed ",
];

/// The names that a file uses: each file has its own.
fn names(random: &mut Random, count: usize) -> Vec<String> {
    let name = |random: &mut Random| {
        let mut name = String::new();
        for part in 0..1 + random.below(3) {
            if part > 0 {
                name.push('_');
            }
            for _ in 0..2 + random.below(3) {
                name.push_str(random.pick(&SYLLABLES));
            }
        }
        name
    };
    (0..count).map(|_| name(random)).collect()
}

fn push_name(out: &mut Vec<u8>, names: &[String], random: &mut Random) {
    let at = random.skewed(names.len());
    out.extend_from_slice(names.get(at).map_or("", String::as_str).as_bytes());
}

fn source(out: &mut Vec<u8>, size: usize, random: &mut Random) {
    let names = names(random, (40 + size / 400).min(600));
    let mut depth = 0;
    while out.len() < size {
        depth = (depth + random.below(3)).saturating_sub(1).min(5);
        out.extend(std::iter::repeat_n(b' ', depth * 4));
        if random.below(6) == 0 {
            out.extend_from_slice(b"# ");
            for _ in 0..6 + random.below(9) {
                let at = random.skewed(PROSE.len());
                out.extend_from_slice(PROSE.get(at).copied().unwrap_or_default().as_bytes());
            }
        } else {
            if random.below(2) == 0 {
                let at = random.skewed(KEYWORDS.len());
                out.extend_from_slice(KEYWORDS.get(at).copied().unwrap_or_default().as_bytes());
            }
            for _ in 0..1 + random.below(5) {
                push_name(out, &names, random);
                let at = random.skewed(MARKS.len());
                out.extend_from_slice(MARKS.get(at).copied().unwrap_or_default().as_bytes());
            }
            if random.below(5) == 0 {
                out.extend_from_slice(random.below(10_000).to_string().as_bytes());
            }
        }
        out.push(b'\n');
    }
}

fn json(out: &mut Vec<u8>, size: usize, random: &mut Random) {
    let names = names(random, (60 + size / 900).min(600));
    out.extend_from_slice(b"{\n  \"version\": \"2.0\",\n  \"shapes\": {\n");
    while out.len() < size {
        out.extend_from_slice(b"    \"");
        push_name(out, &names, random);
        out.extend_from_slice(b"\": {\n      \"type\": \"structure\",\n      \"members\": {\n");
        for _ in 0..1 + random.below(5) {
            out.extend_from_slice(b"        \"");
            push_name(out, &names, random);
            out.extend_from_slice(b"\": {\n          \"shape\": \"");
            push_name(out, &names, random);
            out.extend_from_slice(b"\",\n          \"documentation\": \"<p>");
            for _ in 0..4 + random.below(12) {
                let at = random.skewed(PROSE.len());
                out.extend_from_slice(PROSE.get(at).copied().unwrap_or_default().as_bytes());
            }
            out.extend_from_slice(b"</p>\"\n        },\n");
        }
        out.extend_from_slice(b"      }\n    },\n");
    }
}

/// Instructions and sequences of them from tables that are used unevenly, with operands; some strings; some zeroes.
fn library(out: &mut Vec<u8>, size: usize, random: &mut Random) {
    let names = names(random, 100);
    let instructions: Vec<[u8; 4]> = (0..1200).map(|_| first_four(random.next().to_le_bytes())).collect();
    let instruction = |random: &mut Random| {
        let at = random.skewed(instructions.len());
        instructions.get(at).copied().unwrap_or_default()
    };
    let sequences: Vec<Vec<u8>> =
        (0..500).map(|_| (0..2 + random.below(5)).flat_map(|_| instruction(random)).collect()).collect();
    out.extend_from_slice(b"\x7fELF\x02\x01\x01\0");
    while out.len() < size {
        match random.below(8) {
            0 => out.extend(std::iter::repeat_n(0, 32 + random.below(128))),
            1 => {
                for _ in 0..8 {
                    push_name(out, &names, random);
                    out.push(0);
                }
            }
            _ => {
                for _ in 0..12 {
                    let at = random.skewed(sequences.len());
                    out.extend_from_slice(sequences.get(at).map_or(&[], Vec::as_slice));
                    out.extend_from_slice(&instruction(random));
                    out.extend_from_slice(&(random.below(4096) as u16).to_le_bytes());
                }
            }
        }
    }
}

fn first_four([a, b, c, d, ..]: [u8; 8]) -> [u8; 4] {
    [a, b, c, d]
}

fn noise(out: &mut Vec<u8>, size: usize, random: &mut Random) {
    while out.len() < size {
        out.extend_from_slice(&random.next().to_le_bytes());
    }
}
