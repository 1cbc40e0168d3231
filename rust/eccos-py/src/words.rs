//! Word pieces of plain texts: what BERT's tokeniser comes down to where a text is printable ASCII.

use std::collections::HashMap;
use std::thread;

use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::types::PyString;

/// A thread takes a few microseconds to start; so much text takes it some hundred.
const BYTES_A_THREAD: usize = 16_384;

type Pieces = HashMap<Box<[u8]>, i64>;

/// Ids of each text, None where it is not plain, and the number of its pieces without special ones.
type Encoded<'py> = (Vec<Option<Bound<'py, PyArray1<i64>>>>, Vec<usize>);

/// What a `tokenizer.json` says of a word piece model; the names of the fields are the keys of the mapping.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Vocabulary {
    pieces: HashMap<String, i64>,
    continuation: String,
    unknown: i64,
    longest_word: usize,
    begin: i64,
    end: i64,
    special: Vec<String>,
}

/// A greedy word piece tokeniser for texts of printable ASCII and white space.
#[pyclass(frozen, module = "eccos_rs._core")]
pub struct WordPieces {
    first: Pieces,
    next: Pieces,
    longest_piece: usize,
    vocabulary: Vocabulary,
}

#[pymethods]
impl WordPieces {
    #[new]
    #[pyo3(signature = (vocabulary, /))]
    fn new(mut vocabulary: Vocabulary) -> Self {
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

    /// Encodes texts, each cut at `limit` ids with the end piece kept; a text that is not plain is left out.
    #[pyo3(signature = (texts, limit, threads, /))]
    #[allow(clippy::needless_pass_by_value)] // what is extracted from Python is owned
    fn encode<'py>(
        &self,
        py: Python<'py>,
        texts: Vec<Bound<'py, PyString>>,
        limit: usize,
        threads: usize,
    ) -> Encoded<'py> {
        // A lone surrogate is no UTF-8, and no plain text.
        let texts: Vec<&str> = texts.iter().map(|text| text.to_str().unwrap_or("\0")).collect();
        let made = py.detach(|| self.all_ids(&texts, threads));
        let pieces = made.iter().map(|ids| ids.as_ref().map_or(0, |ids| ids.len() - 2)).collect();
        let cut = |mut ids: Vec<i64>| {
            if ids.len() > limit {
                ids.truncate(limit);
                if let Some(last) = ids.last_mut() {
                    *last = self.vocabulary.end;
                }
            }
            PyArray1::from_vec(py, ids)
        };
        (made.into_iter().map(|ids| ids.map(cut)).collect(), pieces)
    }
}

impl WordPieces {
    /// The ids of many texts, on as many threads as there is work for and may be used.
    fn all_ids(&self, texts: &[&str], most_threads: usize) -> Vec<Option<Vec<i64>>> {
        let of = |part: &[&str]| part.iter().map(|text| self.ids(text)).collect::<Vec<_>>();
        let bytes: usize = texts.iter().map(|text| text.len()).sum();
        let threads = (bytes / BYTES_A_THREAD).min(most_threads);
        if threads < 2 {
            return of(texts);
        }
        thread::scope(|scope| {
            let parts = texts.chunks(texts.len().div_ceil(threads));
            let working: Vec<_> = parts.map(|part| scope.spawn(move || of(part))).collect();
            working.into_iter().flat_map(|part| part.join().expect("tokenising does not panic")).collect()
        })
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
                // Other control characters are dropped, other characters folded: the whole tokeniser's affair.
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
