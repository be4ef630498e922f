//! The media type of blobs: parsed once, here, so that the pool and the workers compare canonical text.
//!
//! What a caller writes in a content type has many spellings (`Application/JSON; charset="UTF-8"`). What goes on to the
//! workers, and back to the caller, has one.

use mime::Mime;

/// The one type that workers decode.
pub(super) const JSON: &str = "application/json";

/// Returns the canonical form of a content type. An empty one stays empty; JSON has no parameters; of any other type the
/// names of type and parameters are in lower case.
///
/// # Errors
///
/// What is wrong with it, for people: it is no media type, a range of types, or JSON that is not UTF-8.
pub(super) fn canonical(content_type: &str) -> Result<String, String> {
    if content_type.is_empty() {
        return Ok(String::new());
    }
    // The crate takes no space before the first semicolon, which HTTP allows.
    let (essence, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    let separator = if parameters.trim().is_empty() { "" } else { "; " };
    let parsed: Result<Mime, _> = format!("{}{separator}{}", essence.trim(), parameters.trim()).parse();
    let not_one = |problem: &str| {
        let problem = problem.strip_prefix("mime parse error: ").unwrap_or(problem);
        format!("{content_type:?} is not a media type ({problem}); send one such as {JSON}, or none")
    };
    let media_type = parsed.map_err(|error| not_one(&error.to_string()))?;
    if media_type.subtype().as_str().is_empty() {
        return Err(not_one("there is nothing after the slash"));
    }
    if media_type.type_() == mime::STAR || media_type.subtype() == mime::STAR {
        return Err(format!("{content_type:?} is a range; send the one media type that the blobs have"));
    }
    if media_type.essence_str() != JSON {
        return Ok(media_type.to_string());
    }
    let charsets = media_type.params().filter(|(name, _)| *name == mime::CHARSET);
    match charsets.map(|(_, charset)| charset).find(|charset| !is_utf_8(charset.as_str())) {
        Some(charset) => Err(format!("JSON is UTF-8, and {:?} is not; encode the blobs anew", charset.as_str())),
        None => Ok(JSON.to_owned()),
    }
}

fn is_utf_8(charset: &str) -> bool {
    ["utf-8", "utf8"].iter().any(|name| charset.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_json_is_the_same() {
        for spelling in [
            "application/json",
            "Application/JSON",
            "application/json;charset=utf-8",
            "application/json; charset=utf-8",
            "application/json ; charset=UTF-8",
            "APPLICATION/JSON;Charset=\"Utf-8\"",
            " application/json ",
            "application/json;",
            "application/json; charset=utf-8; profile=x",
            "application/json; profile=\"a; charset=latin1\"",
            "application/json; charset=utf8",
        ] {
            assert_eq!(canonical(spelling).as_deref(), Ok(JSON), "{spelling}");
        }
    }

    #[test]
    fn other_types_keep_what_they_say() {
        for (sent, expected) in [
            ("", ""),
            ("application/octet-stream", "application/octet-stream"),
            ("Image/PNG", "image/png"),
            ("Text/Plain;Charset=UTF-16", "text/plain; charset=utf-16"),
            ("multipart/mixed; boundary=\"A b\"", "multipart/mixed; boundary=\"A b\""),
            // Only this one type is decoded by workers.
            ("application/vnd.api+json", "application/vnd.api+json"),
            ("text/json", "text/json"),
        ] {
            assert_eq!(canonical(sent).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn what_is_no_media_type_or_no_utf_8_is_refused_with_the_reason() {
        for (sent, problem) in [
            ("json", "is not a media type"),
            ("application/", "is not a media type"),
            ("/json", "is not a media type"),
            ("application/json charset=utf-8", "is not a media type"),
            ("application/json; charset", "is not a media type"),
            ("application/json, text/plain", "is not a media type"),
            ("application/js\u{f6}n", "is not a media type"),
            (" ", "is not a media type"),
            ("*/*", "is a range"),
            ("application/*", "is a range"),
            ("application/json; charset=latin1", "JSON is UTF-8"),
            ("application/json; charset=utf-8; charset=utf-16", "JSON is UTF-8"),
            ("application/json; charset=\"UTF-16LE\"", "JSON is UTF-8"),
        ] {
            let refused = canonical(sent).unwrap_err();
            assert!(refused.contains(problem), "{sent}: {refused}");
        }
    }
}
