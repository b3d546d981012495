//! What an object store's refusals mean to who asked for a file.

use std::error::Error as _;
use std::fmt::Write;
use std::io;

use object_store::Error as Refusal;

use crate::Error;

/// The error for a place in a store that could not be listed or read.
///
/// A name that leads nowhere is the asker's to mend; for the rest it says what to try. The stores
/// say little in types: most of it stands in their messages only.
pub(super) fn refused(place: &str, source: io::Error) -> Error {
    let said = chain(&source);
    let is_missing = source.kind() == io::ErrorKind::NotFound
        || ["NoSuchBucket", "ContainerNotFound", "bucket does not exist"]
            .iter()
            .any(|mark| said.contains(mark));
    if is_missing {
        return Error::NoInput { place: place.to_owned(), reason: said };
    }
    let refusal = source.get_ref().and_then(|inner| inner.downcast_ref());
    let (problem, remedy) = meaning(place, refusal, &said);
    Error::Store { place: place.to_owned(), problem, remedy, source }
}

fn meaning(place: &str, refusal: Option<&Refusal>, said: &str) -> (&'static str, &'static str) {
    let says = |marks: &[&str]| marks.iter().any(|mark| said.contains(mark));
    match refusal {
        Some(Refusal::NotSupported { .. }) => (
            "the server sends whole files only",
            "use a server that answers range requests, or fetch the file and name its path",
        ),
        Some(Refusal::PermissionDenied { .. } | Refusal::Unauthenticated { .. }) => {
            ("the store denies access", credentials(place))
        }
        // Without keys, a client asks the cloud machine it may run on for some.
        _ if says(&["/latest/api/token", "/latest/meta-data", "metadata.google", "169.254."]) => {
            ("no credentials were found", credentials(place))
        }
        _ if says(&["403 Forbidden", "401 Unauthorized"]) => {
            ("the store denies access", credentials(place))
        }
        _ if says(&["PROPFIND"]) => {
            ("the server cannot list its files", "name each file by its own URL")
        }
        _ => (
            "the store does not answer as it should",
            "check the URL, the network and the endpoint",
        ),
    }
}

fn credentials(place: &str) -> &'static str {
    match place.split("://").next().unwrap_or_default() {
        "s3" | "s3a" => {
            "set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION for an account that may \
             list and read it, or AWS_SKIP_SIGNATURE=true for public data"
        }
        "gs" => {
            "set GOOGLE_APPLICATION_CREDENTIALS for an account that may list and read it, or \
             GOOGLE_SKIP_SIGNATURE=true for public data"
        }
        "az" | "azure" | "abfs" | "abfss" | "adl" => {
            "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY for an account that may \
             list and read it, or AZURE_SKIP_SIGNATURE=true for public data"
        }
        _ => "use a URL that needs no account",
    }
}

/// An error and what caused it, each once: stores repeat the cause in the message.
fn chain(error: &io::Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !said.contains(&more) {
            write!(said, ": {more}").expect("a string takes anything");
        }
        cause = error.source();
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(said: &str) -> Refusal {
        Refusal::Generic { store: "S3", source: said.to_owned().into() }
    }

    fn denied() -> Refusal {
        Refusal::PermissionDenied { path: "x".to_owned(), source: "403".into() }
    }

    #[test]
    fn a_wrong_name_is_no_input() {
        let missing = Refusal::NotFound { path: "x".to_owned(), source: "404".into() };
        for refusal in [missing, generic("404: <Code>NoSuchBucket</Code>")] {
            let error = refused("s3://nowhere/x", refusal.into());
            assert!(matches!(error, Error::NoInput { .. }), "{error}");
        }
    }

    #[test]
    fn what_stands_in_the_way_is_said_with_what_to_do() {
        let range = Refusal::NotSupported { source: "no range".into() };
        let cases = [
            ("s3://texts/", denied(), "denies access; set AWS_ACCESS_KEY_ID"),
            ("s3://texts/", generic("listing: 403 Forbidden"), "denies access"),
            ("gs://texts/", denied(), "set GOOGLE_APPLICATION_CREDENTIALS"),
            ("az://texts/", denied(), "set AZURE_STORAGE_ACCOUNT_NAME"),
            ("http://host/x", denied(), "use a URL that needs no account"),
            (
                "s3://texts/",
                generic("PUT http://169.254.169.254/: 403 Forbidden"),
                "no credentials were found",
            ),
            ("http://host/", generic("PROPFIND: 501"), "name each file"),
            ("http://host/x", range, "range requests"),
            ("s3://texts/", generic("connection refused"), "check the URL"),
        ];
        for (place, refusal, expected) in cases {
            let error = refused(place, refusal.into());
            assert!(matches!(error, Error::Store { .. }), "{error}");
            let said = error.to_string();
            assert!(said.contains(place) && said.contains(expected), "{said}");
        }
    }
}
