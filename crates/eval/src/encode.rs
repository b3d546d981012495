//! Texts as tokens, in the way of lm-evaluation-harness's API client.

use terrace_tokenizer::Tokenizer;

use crate::error::Result;

/// Tokens to be scored behind tokens that are given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) context: Vec<u32>,
    pub(crate) continuation: Vec<u32>,
    /// Something was cut off from the left to fit.
    pub(crate) is_cut: bool,
}

/// Encodes a context and its continuation.
///
/// White space at the end of the context goes to the continuation. Both are encoded together, and the
/// continuation's tokens are those behind as many as the context has alone; where the tokenizer joins
/// across the seam, what is scored is not exactly the continuation, as in the harness. Behind no
/// context stands `prefix`.
///
/// # Source
///
/// `TemplateLM._encode_pair` and `loglikelihood` of lm-evaluation-harness 0.4.13.
pub(crate) fn pair(
    tokenizer: &Tokenizer,
    context: &str,
    continuation: &str,
    prefix: u32,
) -> Result<Pair> {
    let kept = context.trim_end();
    let moved = &context[kept.len()..];
    if kept.is_empty() {
        let continuation = tokenizer.encode(&format!("{moved}{continuation}"))?;
        return Ok(Pair { context: vec![prefix], continuation, is_cut: false });
    }
    let mut whole = tokenizer.encode(&format!("{kept}{moved}{continuation}"))?;
    let mut alone = tokenizer.encode(kept)?;
    let continuation = whole.split_off(alone.len().min(whole.len()));
    if alone.is_empty() {
        alone.push(prefix);
    }
    Ok(Pair { context: alone, continuation, is_cut: false })
}

/// Cuts a pair from the left to at most `limit` tokens; at least one token of context is left.
pub(crate) fn cut_pair(pair: Pair, limit: usize) -> Pair {
    let Pair { context, continuation, .. } = pair;
    let length = context.len() + continuation.len();
    if length <= limit {
        return Pair { context, continuation, is_cut: false };
    }
    let cut = length - limit;
    if cut < context.len() {
        return Pair { context: context[cut..].to_vec(), continuation, is_cut: true };
    }
    let kept = &continuation[cut - context.len()..];
    Pair { context: kept[..1].to_vec(), continuation: kept[1..].to_vec(), is_cut: true }
}

/// The last `limit` tokens, and whether that are not all.
pub(crate) fn cut_prompt(mut tokens: Vec<u32>, limit: usize) -> (Vec<u32>, bool) {
    let cut = tokens.len().saturating_sub(limit);
    (tokens.split_off(cut), cut > 0)
}

/// Windows that predict every token of a text once, each behind at most `length` tokens.
///
/// The first stands behind `prefix`; the last one reaches back as far as it can.
///
/// # Source
///
/// `get_rolling_token_windows` with a context of one token, and `make_disjoint_window`.
pub(crate) fn windows(tokens: &[u32], prefix: u32, length: usize) -> Vec<Pair> {
    let mut windows = Vec::new();
    let mut predicted = 0;
    while predicted < tokens.len() {
        let count = length.min(tokens.len() - predicted);
        let end = predicted + count;
        let continuation = tokens[predicted..end].to_vec();
        let context = if predicted == 0 {
            vec![prefix]
        } else {
            tokens[end - length - 1..predicted].to_vec()
        };
        windows.push(Pair { context, continuation, is_cut: false });
        predicted = end;
    }
    windows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair_of(context: &[u32], continuation: &[u32]) -> Pair {
        Pair { context: context.to_vec(), continuation: continuation.to_vec(), is_cut: false }
    }

    #[test]
    fn windows_are_those_of_the_harness() {
        // What get_rolling_token_windows(list(range(10)), 100, 4, 1) and make_disjoint_window give.
        let tokens: Vec<u32> = (0..10).collect();
        assert_eq!(
            windows(&tokens, 100, 4),
            [
                pair_of(&[100], &[0, 1, 2, 3]),
                pair_of(&[3], &[4, 5, 6, 7]),
                pair_of(&[5, 6, 7], &[8, 9]),
            ]
        );
        assert_eq!(windows(&tokens[..3], 100, 4), [pair_of(&[100], &[0, 1, 2])]);
        assert!(windows(&[], 100, 4).is_empty());
    }

    #[test]
    fn the_left_is_cut_and_one_token_of_context_stays() {
        let pair = pair_of(&[1, 2, 3], &[4, 5]);
        assert_eq!(cut_pair(pair.clone(), 5), pair);
        assert_eq!(cut_pair(pair.clone(), 3).context, [3]);
        let short = cut_pair(pair, 2);
        assert_eq!((short.context, short.continuation, short.is_cut), (vec![4], vec![5], true));
        assert_eq!(cut_prompt(vec![1, 2, 3], 2), (vec![2, 3], true));
        assert_eq!(cut_prompt(vec![1, 2, 3], 3), (vec![1, 2, 3], false));
    }
}
