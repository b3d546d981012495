//! Looking for stops in a text that comes in pieces.

/// Cuts a text before the earliest occurrence of any stop, however the text is cut into pieces.
///
/// What may turn out to be the beginning of a stop is held back until it is known. An occurrence
/// that is found while an earlier one may still come about waits for it.
#[derive(Clone, Debug, Default)]
pub struct StopScanner {
    stops: Vec<String>,
    held: String,
    stopped: bool,
}

impl StopScanner {
    /// Looks for these; empty ones are passed over.
    #[must_use]
    pub fn new(stops: &[String]) -> Self {
        let stops = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        Self { stops, ..Self::default() }
    }

    /// Takes a piece; gives what is certain by now to come before any stop.
    pub fn push(&mut self, piece: &str) -> String {
        if self.stopped {
            return String::new();
        }
        self.held.push_str(piece);
        let found = self.earliest();
        let open = self.open();
        match found {
            Some(start) if start <= open => self.cut(start),
            _ => {
                let rest = self.held.split_off(open);
                std::mem::replace(&mut self.held, rest)
            }
        }
    }

    /// Ends the text; gives what was held back and belongs to it.
    pub fn finish(&mut self) -> String {
        match self.earliest() {
            Some(start) if !self.stopped => self.cut(start),
            _ => std::mem::take(&mut self.held),
        }
    }

    /// Whether a stop was found; nothing comes after it.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    fn cut(&mut self, start: usize) -> String {
        self.stopped = true;
        let mut text = std::mem::take(&mut self.held);
        text.truncate(start);
        text
    }

    fn earliest(&self) -> Option<usize> {
        self.stops.iter().filter_map(|stop| self.held.find(stop)).min()
    }

    /// The first place from which on what is held may be the beginning of a stop.
    fn open(&self) -> usize {
        let begins =
            |tail: &str| self.stops.iter().any(|s| s.len() > tail.len() && s.starts_with(tail));
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let from = self.held.len().saturating_sub(longest);
        let places = self.held.char_indices().map(|(place, _)| place).skip_while(|p| *p < from);
        places.into_iter().find(|place| begins(&self.held[*place..])).unwrap_or(self.held.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(pieces: &[&str], stops: &[&str]) -> (String, bool) {
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut scanner = StopScanner::new(&stops);
        let mut text: String = pieces.iter().map(|piece| scanner.push(piece)).collect();
        text.push_str(&scanner.finish());
        (text, scanner.is_stopped())
    }

    #[test]
    fn stops_are_found_wherever_they_lie() {
        let cases: [(&[&str], &[&str], &str, bool); 8] = [
            (&["a\n", "\nb"], &["\n\n"], "a", true),
            (&["one END two"], &["END"], "one ", true),
            (&["END"], &["END"], "", true),
            (&["答案：", "是。", "问题：二"], &["问题："], "答案：是。", true),
            (&["ab", "c"], &["b", "abc"], "", true),
            (&["ab", "d"], &["b", "abc"], "a", true),
            (&["a", "E", "N"], &["END"], "aEN", false),
            (&["x", "5", "y"], &["1", "2", "3", "4", "5", "6"], "x", true),
        ];
        for (pieces, stops, text, stopped) in cases {
            assert_eq!(run(pieces, stops), (text.to_owned(), stopped), "{pieces:?} {stops:?}");
        }
    }

    #[test]
    fn only_what_may_become_a_stop_is_held_back() {
        let mut scanner = StopScanner::new(&["\ndef".to_owned()]);
        assert_eq!(scanner.push("x = 1\n"), "x = 1");
        assert_eq!(scanner.push("de"), "");
        assert_eq!(scanner.push("nse"), "\ndense");
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_cut(
            text in "[ab数\n]{0,12}",
            stops in prop::collection::vec("[ab数\n]{1,3}", 0..6),
            cuts in prop::collection::vec(any::<bool>(), 12),
        ) {
            let mut pieces = vec![String::new()];
            for (character, cut) in text.chars().zip(cuts) {
                if cut {
                    pieces.push(String::new());
                }
                pieces.last_mut().unwrap().push(character);
            }
            let end = stops.iter().filter_map(|stop| text.find(stop)).min();
            let expected = text[..end.unwrap_or(text.len())].to_owned();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            prop_assert_eq!(run(&pieces, &stops), (expected, end.is_some()));
        }
    }
}
