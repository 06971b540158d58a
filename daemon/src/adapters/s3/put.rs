//! Putting one file, whole or in parts, and not believing it before the server vouched for it.

use std::sync::{Arc, PoisonError, atomic::Ordering};

use base64::{Engine, prelude::BASE64_STANDARD};
use md5::Md5;
use reqwest::header::{HeaderMap, HeaderValue};
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;

use super::{
    Answer, Ask, Body, S3Bucket,
    answer::{bare_etag, classify, element, escape, refuses_checksums, time_limit},
    open::Open,
    read, unreachable,
};
use crate::ports::{ObjectStoreError, PutObject};

/// S3's own limit.
const MOST_PARTS: u64 = 10_000;

impl S3Bucket {
    pub(super) async fn put_file(&self, object: &PutObject) -> Result<(), ObjectStoreError> {
        let mut file = tokio::fs::File::open(&object.path).await.map_err(local)?;
        if object.bytes > self.part_size {
            return self.put_parts(object, file).await;
        }
        let mut bytes = Vec::with_capacity(object.bytes as usize);
        // One byte more than announced: a file that grew is noticed, and not read to its end.
        (&mut file).take(object.bytes + 1).read_to_end(&mut bytes).await.map_err(local)?;
        let body = Arc::new(bytes);
        let (sha256, md5) = digests(body.clone()).await;
        if sha256 != object.sha256.0 {
            return Err(ObjectStoreError::Local("its bytes are not those that were stored".to_owned()));
        }
        let ours = BASE64_STANDARD.encode(sha256);
        let mut answer = self.put_once(object, &body, &ours).await?;
        if refuses_checksums(answer.status, &answer.body) && self.checksums.swap(false, Ordering::Relaxed) {
            answer = self.put_once(object, &body, &ours).await?;
        }
        let answer = answer.ok()?;
        match answer.header("x-amz-checksum-sha256") {
            Some(theirs) if theirs == ours => Ok(()),
            Some(_) => Err(ObjectStoreError::Mismatch("the server's SHA-256 differs".to_owned())),
            None if answer.header("etag").is_some_and(|etag| bare_etag(etag) == hex::encode(md5)) => Ok(()),
            None => self.read_back(object).await,
        }
    }

    async fn put_once(&self, object: &PutObject, body: &Body, checksum: &str) -> Result<Answer, ObjectStoreError> {
        let mut headers = metadata(object);
        if self.checksums.load(Ordering::Relaxed) {
            headers.insert("x-amz-checksum-sha256", text(checksum));
        }
        let ask = Ask::Put { headers, content_type: object.content_type.clone(), body: body.clone(), part: None };
        self.ask(&object.key, ask).await
    }

    async fn put_parts(&self, object: &PutObject, file: tokio::fs::File) -> Result<(), ObjectStoreError> {
        let begin = Ask::Begin { headers: metadata(object), content_type: object.content_type.clone() };
        let answer = self.ask(&object.key, begin).await?.ok()?;
        let upload = element(&answer.body, "UploadId");
        let upload = upload.map(|id| escape(&id)).ok_or_else(|| ObjectStoreError::Unreachable("an answer without UploadId".to_owned()))?;
        let open = Open { bucket: self.bucket.url(), key: object.key.clone(), upload };
        self.open.note(&open).map_err(local)?;
        match self.send_parts(object, file, &open.upload).await {
            Ok(vouched) => {
                self.open.forget(&open);
                if vouched { Ok(()) } else { self.read_back(object).await }
            }
            Err(error) => {
                // Parts that nobody completes are paid for and seen nowhere. Without the network this fails too: then the next sweep does it.
                if self.abort(&open).await.is_err() {
                    self.left.lock().unwrap_or_else(PoisonError::into_inner).push(open);
                }
                Err(error)
            }
        }
    }

    async fn abort(&self, open: &Open) -> Result<(), ObjectStoreError> {
        let answer = self.ask(&open.key, Ask::Abort { upload: open.upload.clone() }).await?;
        // Gone already: completed, or swept by the bucket's own rules.
        if answer.status != 404 {
            answer.ok()?;
        }
        self.open.forget(open);
        Ok(())
    }

    /// Aborts the multiparts that an earlier process, or a put of this one while the network was away, left open. An error: some are left
    /// for the next time.
    pub(super) async fn abort_leftovers(&self) -> Result<(), ObjectStoreError> {
        let ours = self.bucket.url();
        let left = std::mem::take(&mut *self.left.lock().unwrap_or_else(PoisonError::into_inner));
        let (mut kept, mut failed) = (Vec::new(), None);
        for open in left {
            if open.bucket != ours {
                tracing::warn!("an open upload belongs to a bucket of an earlier configuration; it is left to that bucket's own rules");
                self.open.forget(&open);
            } else if failed.is_some() {
                kept.push(open);
            } else if let Err(error) = self.abort(&open).await {
                (kept, failed) = (vec![open], Some(error));
            }
        }
        self.left.lock().unwrap_or_else(PoisonError::into_inner).extend(kept);
        failed.map_or(Ok(()), Err)
    }

    /// Sends and completes; true: the ETags vouch for every byte.
    async fn send_parts(&self, object: &PutObject, mut file: tokio::fs::File, upload: &str) -> Result<bool, ObjectStoreError> {
        let part_size = self.part_size.max(object.bytes.div_ceil(MOST_PARTS));
        let (mut whole, mut md5s, mut parts, mut vouched) = (Sha256::new(), Md5::new(), Vec::new(), true);
        let mut left = object.bytes;
        while left > 0 {
            let mut bytes = vec![0; left.min(part_size) as usize];
            file.read_exact(&mut bytes).await.map_err(local)?;
            left -= bytes.len() as u64;
            let body = Arc::new(bytes);
            let (hashed, md5) = hash_part(whole, body.clone()).await;
            whole = hashed;
            md5s.update(md5);
            let number = parts.len() as u32 + 1;
            let part = Some((number, upload.to_owned()));
            let ask = Ask::Put { headers: HeaderMap::new(), content_type: object.content_type.clone(), body, part };
            let answer = self.ask(&object.key, ask).await?.ok()?;
            let etag = answer.header("etag").ok_or_else(|| ObjectStoreError::Unreachable("a part without an ETag".to_owned()))?;
            vouched &= bare_etag(etag) == hex::encode(md5);
            parts.push((number, etag.to_owned()));
        }
        let grown = file.read(&mut [0]).await.map_err(local)? != 0;
        if grown || whole.finalize()[..] != object.sha256.0 {
            return Err(ObjectStoreError::Local("its bytes are not those that were stored".to_owned()));
        }
        let expected = format!("{}-{}", hex::encode(md5s.finalize()), parts.len());
        let answer = self.ask(&object.key, Ask::Complete { upload: upload.to_owned(), parts }).await?.ok()?;
        // S3 answers 200 before it is done, and may put an error into the body.
        if element(&answer.body, "ETag").is_none() {
            return Err(classify(answer.status, &answer.body));
        }
        Ok(vouched && element(&answer.body, "ETag").is_some_and(|etag| bare_etag(&etag) == expected))
    }

    /// The server gave no checksum that we can compute: its bytes are fetched and hashed.
    async fn read_back(&self, object: &PutObject) -> Result<(), ObjectStoreError> {
        let mut response = self.send(&object.key, &Arc::new(Ask::Get), time_limit(object.bytes, None)).await?;
        if !response.status().is_success() {
            return Err(read(response).await?.ok().err().unwrap_or_else(|| ObjectStoreError::Unreachable("no answer".to_owned())));
        }
        let (mut hash, mut bytes) = (Sha256::new(), 0u64);
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            bytes += chunk.len() as u64;
            if bytes > object.bytes {
                break;
            }
            hash.update(&chunk);
        }
        if bytes == object.bytes && hash.finalize()[..] == object.sha256.0 {
            Ok(())
        } else {
            Err(ObjectStoreError::Mismatch("read back, the object differs".to_owned()))
        }
    }
}

fn metadata(object: &PutObject) -> HeaderMap {
    HeaderMap::from_iter([(reqwest::header::HeaderName::from_static("x-amz-meta-sha256"), text(&object.sha256.to_string()))])
}

fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).expect("hex and base64 are header text")
}

async fn digests(body: Body) -> ([u8; 32], [u8; 16]) {
    tokio::task::spawn_blocking(move || (Sha256::digest(&*body).into(), Md5::digest(&*body).into()))
        .await
        .expect("hashing does not panic and is not cancelled")
}

async fn hash_part(mut whole: Sha256, body: Body) -> (Sha256, [u8; 16]) {
    tokio::task::spawn_blocking(move || {
        whole.update(&*body);
        (whole, Md5::digest(&*body).into())
    })
    .await
    .expect("hashing does not panic and is not cancelled")
}

fn local(error: std::io::Error) -> ObjectStoreError {
    ObjectStoreError::Local(error.to_string())
}
