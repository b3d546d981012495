//! From an error to what a person, or a program, is told about it.

use std::path::Path;

use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource, Report,
};
use serde::Serialize;
use terrace_config::Diagnostic;

use crate::context::Context;
use crate::error::{Cause, CliError};
use crate::exit::ExitCode;

/// Tells what went wrong, and returns how the command ends.
pub(crate) fn report(error: &CliError, context: &Context) -> ExitCode {
    if context.json {
        context.data(&describe(error));
    }
    context.say(&render(error, context.colour));
    error.exit()
}

/// An error as a program reads it.
#[derive(Serialize)]
struct Described {
    error: DescribedError,
}

#[derive(Serialize)]
struct DescribedError {
    code: u8,
    kind: ExitCode,
    #[serde(flatten)]
    first: Problem,
    /// All problems, where several were found at once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<Problem>,
}

#[derive(Serialize)]
struct Problem {
    message: String,
    file: Option<String>,
    line: Option<usize>,
    column: Option<usize>,
    help: Option<String>,
}

fn describe(error: &CliError) -> Described {
    let mut problems: Vec<Problem> = placed(error).iter().map(Problem::placed).collect();
    let first = if problems.is_empty() {
        Problem {
            message: error.to_string(),
            file: error.file().map(shown),
            line: None,
            column: None,
            help: error.help().map(str::to_owned),
        }
    } else {
        placed(error).first().map(Problem::placed).expect("there is one")
    };
    if problems.len() < 2 {
        problems.clear();
    }
    let (code, kind) = (error.exit().number(), error.exit());
    Described { error: DescribedError { code, kind, first, problems } }
}

impl Problem {
    fn placed(diagnostic: &Diagnostic) -> Self {
        let (line, column) = diagnostic.line_and_column();
        Self {
            message: diagnostic.message.clone(),
            file: Some(shown(&diagnostic.file)),
            line: Some(line),
            column: Some(column),
            help: diagnostic.help.clone(),
        }
    }
}

/// Lays an error out for people; problems of a configuration with the line that they are about.
pub(crate) fn render(error: &CliError, colour: bool) -> String {
    match placed(error) {
        [] => render_plain(error, colour),
        problems => problems.iter().map(|problem| render_placed(problem, colour)).collect(),
    }
}

fn render_plain(error: &CliError, colour: bool) -> String {
    let mut diagnostic = MietteDiagnostic::new(error.to_string());
    diagnostic.help = error.help().map(str::to_owned);
    graphical(&Report::new(diagnostic), colour)
}

fn render_placed(problem: &Diagnostic, colour: bool) -> String {
    let text = problem.source_text.as_ref();
    // A problem at the end of the file, or about something that is missing, has no width; the
    // renderer wants a span that lies within the text.
    let start = problem.span.start.min(text.len());
    let end = problem.span.end.clamp(start, text.len());
    let label = LabeledSpan::at(start..end, "here");
    let mut diagnostic = MietteDiagnostic::new(problem.message.clone()).with_label(label);
    diagnostic.help.clone_from(&problem.help);
    let source = NamedSource::new(shown(&problem.file), text.to_owned());
    graphical(&Report::new(diagnostic).with_source_code(source), colour)
}

fn graphical(report: &Report, colour: bool) -> String {
    let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(100)
        .with_links(false)
        // An option or a name that is broken at its hyphen cannot be copied.
        .with_word_splitter(textwrap::WordSplitter::NoHyphenation);
    let mut text = String::new();
    match handler.render_report(&mut text, report.as_ref()) {
        Ok(()) => text,
        Err(_) => match report.help() {
            Some(help) => format!("{report} ({help})"),
            None => report.to_string(),
        },
    }
}

fn placed(error: &CliError) -> &[Diagnostic] {
    match error.cause() {
        Cause::Config(error) => error.diagnostics(),
        Cause::Other(_) => &[],
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(message: &str, span: std::ops::Range<usize>) -> Diagnostic {
        Diagnostic {
            file: "run.toml".into(),
            source_text: "seed = 17\nnmae = 1\n".into(),
            span,
            message: message.to_owned(),
            help: Some("did you mean `name`?".to_owned()),
        }
    }

    fn invalid(problems: Vec<Diagnostic>) -> CliError {
        terrace_config::Error::Invalid(problems).into()
    }

    #[test]
    fn a_problem_is_shown_in_its_line() {
        let text = render(&invalid(vec![problem("unknown key `nmae`", 10..14)]), false);
        assert!(text.contains("unknown key `nmae`"), "{text}");
        assert!(text.contains("run.toml:2:1"), "{text}");
        assert!(text.contains("nmae = 1"), "{text}");
        assert!(text.contains("did you mean `name`?"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn a_problem_past_the_end_is_shown_too() {
        let text = render(&invalid(vec![problem("`name` is missing", 500..600)]), false);
        assert!(text.contains("`name` is missing"), "{text}");
    }

    #[test]
    fn programs_get_the_place_in_fields() {
        let error = invalid(vec![problem("one", 10..14), problem("two", 0..4)]);
        let json = serde_json::to_value(describe(&error)).unwrap();
        let error = &json["error"];
        assert_eq!(error["code"], 2);
        assert_eq!(error["kind"], "bad_input");
        assert_eq!(error["message"], "one");
        assert_eq!(error["file"], "run.toml");
        assert_eq!((error["line"].as_u64(), error["column"].as_u64()), (Some(2), Some(1)));
        assert_eq!(error["problems"][1]["message"], "two");
    }

    #[test]
    fn other_errors_have_a_remedy() {
        let error = CliError::environment("no card").with_help("put one in");
        let text = render(&error, false);
        assert!(text.contains("no card") && text.contains("put one in"), "{text}");
        let json = serde_json::to_value(describe(&error)).unwrap();
        assert_eq!(json["error"]["code"], 3);
        assert!(json["error"]["line"].is_null());
    }
}
