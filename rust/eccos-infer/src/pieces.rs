//! Word pieces of plain texts: what BERT's tokeniser comes down to where a text is printable ASCII.

use std::collections::HashMap;
use std::panic::resume_unwind;
use std::thread;

use serde::Deserialize;

/// A thread takes a few microseconds to start; so much text takes it some hundred.
const BYTES_PER_THREAD: usize = 16_384;

type Pieces = HashMap<Box<[u8]>, i64>;

/// What a `tokenizer.json` says of a word piece model.
#[derive(Debug, Clone, Deserialize)]
pub struct Vocabulary {
    /// Id of each piece.
    pub pieces: HashMap<String, i64>,
    /// What stands before a piece that continues a word, such as `##`.
    pub continuation: String,
    /// Id of a word that has no pieces.
    pub unknown: i64,
    /// A longer word, in bytes, is unknown.
    pub longest_word: usize,
    /// Id before every text.
    pub begin: i64,
    /// Id after every text.
    pub end: i64,
    /// Pieces that are found as they stand in a text, such as `[MASK]`.
    pub special: Vec<String>,
}

/// A greedy word piece tokeniser for texts of printable ASCII and white space.
#[derive(Debug, Clone)]
pub struct WordPieces {
    first: Pieces,
    next: Pieces,
    longest_piece: usize,
    vocabulary: Vocabulary,
}

impl WordPieces {
    /// Lays out the pieces for look-up.
    #[must_use]
    pub fn new(mut vocabulary: Vocabulary) -> Self {
        let (mut first, mut next) = (Pieces::new(), Pieces::new());
        for (piece, id) in std::mem::take(&mut vocabulary.pieces) {
            match piece.strip_prefix(&vocabulary.continuation) {
                Some(rest) => next.insert(rest.as_bytes().into(), id),
                None => first.insert(piece.as_bytes().into(), id),
            };
        }
        let longest_piece = first.keys().chain(next.keys()).map(|piece| piece.len()).max().unwrap_or(0);
        Self { first, next, longest_piece, vocabulary }
    }

    /// Encodes texts on as many threads as there is work for and may be used: for each text its ids, at most
    /// `limit` of them from both ends, and the number of its pieces before the cut; None where the text is not plain.
    #[must_use]
    pub fn encode(&self, texts: &[&str], limit: usize, threads: usize) -> Vec<Option<(Vec<i64>, usize)>> {
        let some = |part: &[&str]| part.iter().map(|text| self.cut(text, limit)).collect::<Vec<_>>();
        let bytes: usize = texts.iter().map(|text| text.len()).sum();
        let threads = (bytes / BYTES_PER_THREAD).min(threads);
        if threads < 2 {
            return some(texts);
        }
        thread::scope(|scope| {
            let parts = texts.chunks(texts.len().div_ceil(threads));
            let working: Vec<_> = parts.map(|part| scope.spawn(move || some(part))).collect();
            working.into_iter().flat_map(|part| part.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
        })
    }

    fn cut(&self, text: &str, limit: usize) -> Option<(Vec<i64>, usize)> {
        let mut ids = self.ids(text)?;
        let pieces = ids.len() - 2;
        if ids.len() > limit {
            // The begin piece with the first half, the last half with the end piece.
            let tail = ids.len() - limit / 2;
            ids.drain(limit - limit / 2..tail);
        }
        Some((ids, pieces))
    }

    /// All ids of a text with the special ones around them; None when it is not plain.
    fn ids(&self, text: &str) -> Option<Vec<i64>> {
        if self.vocabulary.special.iter().any(|token| text.contains(token.as_str())) {
            return None;
        }
        let mut ids = vec![self.vocabulary.begin];
        let mut word = Vec::new();
        for byte in text.bytes() {
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' => self.finish(&mut word, &mut ids),
                b'!'..=b'~' if byte.is_ascii_punctuation() => {
                    self.finish(&mut word, &mut ids);
                    word.push(byte);
                    self.finish(&mut word, &mut ids);
                }
                b'!'..=b'~' => word.push(byte.to_ascii_lowercase()),
                // Other control characters are dropped and other characters folded: left to the whole tokeniser.
                _ => return None,
            }
        }
        self.finish(&mut word, &mut ids);
        ids.push(self.vocabulary.end);
        Some(ids)
    }

    /// Takes the longest known piece again and again; a word with an unknown rest is one unknown piece.
    fn finish(&self, word: &mut Vec<u8>, ids: &mut Vec<i64>) {
        let (before, mut from) = (ids.len(), 0);
        let known = word.len() <= self.vocabulary.longest_word;
        while known && from < word.len() {
            let table = if from == 0 { &self.first } else { &self.next };
            let most = word.len().min(from + self.longest_piece);
            let Some((to, id)) = (from + 1..=most).rev().find_map(|to| Some((to, *table.get(&word[from..to])?)))
            else {
                break;
            };
            ids.push(id);
            from = to;
        }
        if from < word.len() {
            ids.truncate(before);
            ids.push(self.vocabulary.unknown);
        }
        word.clear();
    }
}
