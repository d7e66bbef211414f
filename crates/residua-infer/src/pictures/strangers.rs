//! Files that are called pictures and are something else.

/// What bytes are that are no picture that is read, and what to do, in words; nothing if that is not known.
pub(super) fn what(bytes: &[u8]) -> Option<&'static str> {
    let begins = |begin: &[u8]| bytes.starts_with(begin);
    let text = text(bytes);
    let text_begins = |begin: &str| text.as_ref().is_some_and(|text| text.starts_with(begin));
    Some(match () {
        () if bytes.get(4..8) == Some(b"ftyp") => match bytes.get(8..12)? {
            b"avif" | b"avis" => "it is an AVIF picture; convert it to JPEG or PNG",
            b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"mif1" | b"msf1" => {
                "it is a HEIC picture, as phones take them; convert it to JPEG"
            }
            _ => "it is a video; take pictures out of it",
        },
        () if begins(b"II*\0") || begins(b"MM\0*") => "it is a TIFF picture; convert it to PNG",
        () if begins(b"\xff\x0a") || begins(b"\0\0\0\x0cJXL ") => {
            "it is a JPEG XL picture; convert it to JPEG or PNG"
        }
        () if begins(b"\0\0\0\x0cjP  ") || begins(b"\xff\x4f\xff\x51") => {
            "it is a JPEG 2000 picture; convert it to JPEG or PNG"
        }
        () if begins(b"8BPS") => "it is a file of Photoshop; export it as PNG",
        () if begins(b"%PDF") => "it is a PDF document; convert its pages to PNG",
        () if begins(b"\0\x05\x16\x07") => {
            "it is what macOS keeps beside a file, the picture is another; remove it"
        }
        () if begins(b"PK\x03\x04") => "it is a zip archive; unpack it",
        () if begins(b"\x1f\x8b") => "it is packed by gzip; unpack it",
        () if begins(b"\x1aE\xdf\xa3") || begins(b"RIFF") && bytes.get(8..12) == Some(b"AVI ") => {
            "it is a video; take pictures out of it"
        }
        () if text_begins("version https://git-lfs") => {
            "it is a pointer of Git LFS; fetch the picture itself by `git lfs pull`"
        }
        () if ["<!doctype html", "<html", "<head", "<body"].iter().any(|begin| text_begins(begin)) => {
            "it is a web page (HTML), perhaps what a failed download was answered by; download the picture again"
        }
        () if text_begins("<svg") || text_begins("<?xml") => {
            "it is an SVG drawing or another XML document; convert it to PNG"
        }
        () if bytes.iter().all(|&byte| byte == 0) => {
            "it is all zeros, as a copy or download that was broken off; fetch it again"
        }
        () if text.is_some() => "it is text",
        () => return None,
    })
}

/// The beginning of a text, in lower case.
fn text(bytes: &[u8]) -> Option<String> {
    const BEGINNING: usize = 256;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    let begin = &bytes[..bytes.len().min(BEGINNING)];
    let is_text =
        !begin.is_empty() && begin.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
    is_text.then(|| String::from_utf8_lossy(begin).to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_named() {
        for (bytes, named) in [
            (&b"\0\0\0\x20ftypheic\0\0"[..], "HEIC"),
            (b"\0\0\0\x20ftypavif\0\0", "AVIF"),
            (b"\0\0\0\x20ftypisom\0\0", "video"),
            (b"II*\0\x08", "TIFF"),
            (b"\xef\xbb\xbf\r\n <!DOCTYPE html>\n<html>", "web page"),
            (b"<HTML><body>404", "web page"),
            (b"<svg xmlns=", "SVG"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "git lfs pull"),
            (b"\0\x05\x16\x07\0\x02", "macOS"),
            (b"%PDF-1.7", "PDF"),
            (b"PK\x03\x04", "zip"),
            (b"\0\0\0\0\0\0\0\0\0\0", "zeros"),
            (b"these are no pixels at all", "it is text"),
        ] {
            assert!(what(bytes).unwrap().contains(named), "{named}: {:?}", what(bytes));
        }
        assert_eq!(what(b"\x89PN\x01\x02"), None);
        assert_eq!(what(b"\0\0\0\x20ftyp"), None);
    }
}
