//! Word pieces of plain texts by a small vocabulary.

use eccos_infer::{Vocabulary, WordPieces};

fn pieces() -> WordPieces {
    let words = ["what", "is", "un", "##aff", "##able", "##a", "!", "?", "2"];
    WordPieces::new(Vocabulary {
        pieces: words.iter().zip(10..).map(|(word, id)| ((*word).to_owned(), id)).collect(),
        continuation: "##".to_owned(),
        unknown: 1,
        longest_word: 12,
        begin: 2,
        end: 3,
        special: vec!["[MASK]".to_owned()],
    })
}

fn ids(text: &str) -> Option<Vec<i64>> {
    pieces().encode(&[text], 100, 1).remove(0).map(|(ids, _)| ids)
}

#[test]
fn the_longest_piece_is_taken_first() {
    assert_eq!(ids("What is  unaffable?\n").unwrap(), [2, 10, 11, 12, 13, 14, 17, 3]);
    assert_eq!(ids("una").unwrap(), [2, 12, 15, 3]);
    assert_eq!(ids("").unwrap(), [2, 3]);
}

#[test]
fn a_word_with_an_unknown_rest_is_unknown() {
    for word in ["unx", "zebra", "##a", "unaffableaffx"] {
        let made = ids(word).unwrap();
        assert!(made.contains(&1), "{word}: {made:?}");
    }
    assert_eq!(ids("unaffaffable").unwrap(), [2, 12, 13, 13, 14, 3], "12 bytes are not too long");
    assert_eq!(ids("unaffaffableaff").unwrap(), [2, 1, 3], "15 bytes are");
}

#[test]
fn what_is_not_plain_is_left_out() {
    for text in ["é", "a\0b", "what [MASK]", "tab\u{b}", "😀", "\u{7f}"] {
        assert_eq!(ids(text), None, "{text:?}");
    }
}

#[test]
fn a_cut_text_keeps_both_ends_and_its_count() {
    let (ids, count) = pieces().encode(&["what is 2 2 ?"], 4, 1).remove(0).unwrap();
    assert_eq!((ids.as_slice(), count), ([2, 10, 17, 3].as_slice(), 5));
    let (ids, _) = pieces().encode(&["what is 2 2 ?"], 5, 1).remove(0).unwrap();
    assert_eq!(ids, [2, 10, 11, 17, 3]);
}

#[test]
fn any_number_of_threads_gives_the_same() {
    let texts: Vec<String> =
        (0..300).map(|n| if n == 7 { "é".to_owned() } else { "what is unaffable? ".repeat(n) }).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let alone = pieces().encode(&texts, 50, 1);
    assert!(alone[7].is_none());
    for threads in [2, 5, 64] {
        assert_eq!(pieces().encode(&texts, 50, threads), alone);
    }
}
