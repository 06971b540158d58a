//! Files on their way out: streamed, with type, ETag, conditional and single-range requests (RFC 9110, 13 and 14).

use std::{
    io::{self, SeekFrom},
    path::Path,
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt},
};

use super::error::{ApiError, ApiResult, Kind};

/// Bytes read at once: few turns through the blocking pool, little memory for each slow reader.
const CHUNK: usize = 128 << 10;

/// What a file is served as.
pub struct Served<'a> {
    pub path: &'a Path,
    pub content_type: &'static str,
    /// Shown by "save as".
    pub name: String,
    /// Names these bytes for ever (their SHA-256).
    pub etag: Option<String>,
}

pub async fn serve(file: Served<'_>, request: &HeaderMap) -> ApiResult<Response> {
    let mut open = match File::open(file.path).await {
        Ok(open) => open,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(ApiError::new(Kind::NotOnDevice, "the file is no longer on this device"));
        }
        Err(e) => return Err(ApiError::internal(e)),
    };
    let len = open.metadata().await.map_err(ApiError::internal)?.len();
    let etag = file.etag.map(|e| format!("\"{e}\""));
    let known = |tags: &HeaderValue| {
        let fits = |tag: &str| tag == "*" || Some(tag.trim_start_matches("W/")) == etag.as_deref();
        tags.to_str().is_ok_and(|tags| tags.split(',').any(|tag| fits(tag.trim())))
    };
    // A part is only wanted of the file that the caller has the rest of; a date never fits, we tell none.
    let same = request.get(header::IF_RANGE).is_none_or(|tag| tag.to_str().ok() == etag.as_deref());

    let mut response = if request.get(header::IF_NONE_MATCH).is_some_and(known) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        match request.get(header::RANGE).filter(|_| same).and_then(|r| range(r.to_str().ok()?, len)) {
            None => respond(StatusCode::OK, open, len),
            Some(Err(())) => {
                let error = ApiError::new(Kind::NoSuchRange, format!("the file has {len} bytes"));
                return Ok(([(header::CONTENT_RANGE, format!("bytes */{len}"))], error).into_response());
            }
            Some(Ok((from, to))) => {
                open.seek(SeekFrom::Start(from)).await.map_err(ApiError::internal)?;
                let mut partial = respond(StatusCode::PARTIAL_CONTENT, open, to - from + 1);
                let value = HeaderValue::from_str(&format!("bytes {from}-{to}/{len}")).expect("numbers are valid in a header");
                partial.headers_mut().insert(header::CONTENT_RANGE, value);
                partial
            }
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.content_type));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    // Kept by the one browser that asked, never by a proxy: these are pictures of people.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=300"));
    if let Ok(value) = HeaderValue::from_str(&format!("inline; filename=\"{}\"", file.name)) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    if let Some(value) = etag.and_then(|e| HeaderValue::from_str(&e).ok()) {
        headers.insert(header::ETAG, value);
    }
    Ok(response)
}

fn respond(status: StatusCode, file: File, len: u64) -> Response {
    let stream = futures_util::stream::try_unfold((file, len), |(mut file, left)| async move {
        if left == 0 {
            return Ok::<_, io::Error>(None);
        }
        let mut chunk = vec![0; CHUNK.min(usize::try_from(left).unwrap_or(CHUNK))];
        let n = file.read(&mut chunk).await?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into()); // the connection breaks: better than a short file that looks whole
        }
        chunk.truncate(n);
        Ok(Some((Bytes::from(chunk), (file, left - n as u64))))
    });
    (status, [(header::CONTENT_LENGTH, len)], Body::from_stream(stream)).into_response()
}

/// The one byte range that is asked for: first and last, both included. None: no range, or more than we do (then the whole is sent).
fn range(value: &str, len: u64) -> Option<Result<(u64, u64), ()>> {
    let spec = value.strip_prefix("bytes=")?.trim();
    let (from, to) = spec.split_once('-').filter(|_| !spec.contains(','))?;
    let (from, to) = match (from.is_empty(), to.is_empty()) {
        (true, true) => return None,
        (true, false) => (len.saturating_sub(to.parse::<u64>().ok()?), len.checked_sub(1)),
        (false, true) => (from.parse().ok()?, len.checked_sub(1)),
        (false, false) => (from.parse().ok()?, Some(to.parse::<u64>().ok()?.min(len.saturating_sub(1)))),
    };
    match to {
        Some(to) if from <= to && from < len => Some(Ok((from, to))),
        _ => Some(Err(())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_rfc_says() {
        for (text, expected) in [
            ("bytes=0-9", Some(Ok((0, 9)))),
            ("bytes=90-", Some(Ok((90, 99)))),
            ("bytes=-10", Some(Ok((90, 99)))),
            ("bytes=-1000", Some(Ok((0, 99)))),
            ("bytes=50-1000", Some(Ok((50, 99)))),
            ("bytes=100-", Some(Err(()))),
            ("bytes=9-5", Some(Err(()))),
            ("bytes=0-1,5-6", None),
            ("rows=0-1", None),
            ("bytes=a-b", None),
        ] {
            assert_eq!(range(text, 100), expected, "{text}");
        }
        assert_eq!(range("bytes=0-0", 0), Some(Err(())));
    }

    #[tokio::test]
    async fn a_file_is_sent_whole_in_part_or_not_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("f");
        let bytes: Vec<u8> = (0..CHUNK * 2 + 7).map(|i| i as u8).collect();
        std::fs::write(&path, &bytes).expect("written");
        let get = async |headers: &[(header::HeaderName, &str)]| {
            let request = headers.iter().map(|(n, v)| (n.clone(), v.parse().expect("a value"))).collect();
            let served = Served { path: &path, content_type: "image/jpeg", name: "f.jpg".into(), etag: Some("abc".into()) };
            let response = serve(served, &request).await.expect("served");
            let status = response.status().as_u16();
            (status, axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("read"))
        };
        let (status, whole) = get(&[]).await;
        assert!(status == 200 && whole == bytes);
        let (status, part) = get(&[(header::RANGE, "bytes=5-9")]).await;
        assert!(status == 206 && part == bytes[5..10]);
        assert_eq!(get(&[(header::IF_NONE_MATCH, "\"x\", \"abc\"")]).await.0, 304);
        assert_eq!(get(&[(header::RANGE, "bytes=9999999-")]).await.0, 416);
        let gone = Served { path: &dir.path().join("gone"), content_type: "image/jpeg", name: "g".into(), etag: None };
        assert_eq!(serve(gone, &HeaderMap::new()).await.expect_err("gone").kind(), Kind::NotOnDevice);
    }
}
