//! What is to be brought to the bucket, as rows: queued with the transaction that makes it owed, taken back with a deleted photo.

use super::{
    StoreError,
    blobs::{blob_name, result_name},
    commit::Tx,
    rows::{self, Subject, UploadFile, UploadRecord},
};
use crate::domain::{
    ids::Seq,
    job::{Artifacts, Job},
    photo::Photo,
    report::FileFacts,
};

/// A finished job's objects, and the original where the bucket still lacks it: all that `uploaded` waits for.
pub fn queue_result(tx: &mut Tx<'_>, job: &Job, artifacts: &Artifacts) -> Result<(), StoreError> {
    let dir = result_name(job.id);
    let file = |name: &str, facts: &FileFacts, content_type: &str| UploadFile {
        path: format!("{dir}/{name}"),
        content_type: content_type.to_owned(),
        sha256: facts.sha256,
        bytes: facts.bytes,
    };
    let report = UploadFile {
        path: format!("{dir}/report.json"),
        content_type: "application/json".to_owned(),
        sha256: artifacts.report_sha256,
        bytes: artifacts.report_bytes,
    };
    let mut files = vec![
        (".jpg", file("image.jpg", &artifacts.files.image, "image/jpeg")),
        (".png", file("mask.png", &artifacts.files.mask, "image/png")),
        (".json", report),
    ];
    if tx.options().upload_synthetic {
        files.push((".synthetic.png", file("synthetic.png", &artifacts.files.synthetic, "image/png")));
    }
    let mut awaited = Vec::new();
    for (ending, file) in files {
        let s3_key = job.s3_key(ending);
        awaited.push(queue_upload(tx, Subject::Job(job.id), s3_key, Some(file))?);
    }
    let photo: Option<Photo> = tx.get(&rows::photo(job.photo_id))?;
    if let Some(photo) = photo
        && tx.options().upload_originals
        && !photo.uploaded
    {
        let waits = original_upload(tx, &photo)?;
        awaited.push(waits);
    }
    tx.put(rows::awaited(job.id), &awaited)
}

pub fn queue_upload(tx: &mut Tx<'_>, subject: Subject, s3_key: String, file: Option<UploadFile>) -> Result<Seq, StoreError> {
    let seq = tx.next_row();
    tx.put(rows::upload(seq), &UploadRecord { subject, s3_key, file, attempts: 0, not_before: None })?;
    Ok(seq)
}

pub fn queue_original(tx: &mut Tx<'_>, photo: &Photo) -> Result<Seq, StoreError> {
    let file = UploadFile {
        path: blob_name(&photo.sha256),
        content_type: photo.content_type.mime().to_owned(),
        sha256: photo.sha256,
        bytes: photo.bytes,
    };
    queue_upload(tx, Subject::Original(photo.id), photo.s3_key(), Some(file))
}

/// The row that brings the original to the bucket; made where there is none yet (a bucket that was configured later).
pub fn original_upload(tx: &mut Tx<'_>, photo: &Photo) -> Result<Seq, StoreError> {
    match tx.find_upload(Subject::Original(photo.id))? {
        Some((seq, _)) => Ok(seq),
        None => queue_original(tx, photo),
    }
}

/// Takes back what was still to be uploaded of a photo and its jobs. A row whose upload may have begun leaves an object behind
/// that must be deleted: its key is returned.
pub fn withdraw_uploads(tx: &mut Tx<'_>, photo: &Photo, jobs: &[Job]) -> Result<Vec<String>, StoreError> {
    let mine = jobs.iter().map(|j| Subject::Job(j.id)).chain([Subject::Original(photo.id)]);
    let mut keys = Vec::new();
    for subject in mine {
        while let Some((seq, row)) = tx.find_upload(subject)? {
            tx.delete(rows::upload(seq));
            keys.push(row.s3_key);
        }
    }
    Ok(keys)
}

impl Tx<'_> {
    /// The oldest upload row about `subject`, this group's included.
    pub fn find_upload(&self, subject: Subject) -> Result<Option<(Seq, UploadRecord)>, StoreError> {
        let mut seqs: Vec<Seq> = self.view().uploads_of(subject).collect();
        seqs.extend(self.changed_keys(b'u').filter_map(rows::seq_of));
        for seq in seqs {
            if let Some(row) = self.get::<UploadRecord>(&rows::upload(seq))?.filter(|u| u.subject == subject) {
                return Ok(Some((seq, row)));
            }
        }
        Ok(None)
    }
}
