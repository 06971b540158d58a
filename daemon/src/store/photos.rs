//! Photos: taken in once for each owner, deleted on request, evicted when the disk is needed.

use uuid::Uuid;

use super::{
    Store, StoreError,
    blobs::{blob_name, refused_name, result_name},
    commit::Tx,
    idempotency::{remember, replayed},
    rows::{self, Subject},
    types::{Answer, Idempotency, NewPhoto},
    uploads::{original_upload, queue_original, queue_upload, withdraw_uploads},
};
use crate::domain::{
    ids::{PhotoId, Sha256, UserId},
    job::{Job, Status, UploadStatus},
    photo::{ClientInfo, Photo},
};

impl Store {
    /// The photo, and whether it is new (false: this owner sent these bytes before, and gets the same row). The blob must lie in its
    /// place, fsynced; `Io(NotFound)` says that a delete of the same bytes came in between: place it again.
    pub async fn add_photo(&self, new: NewPhoto, idempotency: Option<Idempotency>) -> Result<(Photo, bool), StoreError> {
        let id = PhotoId(Uuid::now_v7());
        self.commit(move |tx| {
            if let Some(Answer::Photo(id) | Answer::KnownPhoto(id)) = replayed(tx, idempotency.as_ref())?
                && let Some(photo) = tx.get::<Photo>(&rows::photo(id))?
            {
                return Ok((photo, false));
            }
            let blob = blob_name(&new.sha256);
            if !tx.options().state.join(&blob).is_file() {
                return Err(StoreError::Io(std::io::ErrorKind::NotFound.into()));
            }
            let (photo, fresh) = match tx.get::<PhotoId>(&rows::duplicate(&new.user_id, &new.sha256))? {
                Some(known) => (known_again(tx, known, new.client)?, false),
                None => (insert(tx, id, new)?, true),
            };
            let answer = if fresh { Answer::Photo(photo.id) } else { Answer::KnownPhoto(photo.id) };
            remember(tx, idempotency, answer)?;
            Ok((photo, fresh))
        })
        .await
    }

    /// Removes the blob unless a row needs it: its photo could not be stored.
    pub async fn forget_blob(&self, sha256: Sha256) -> Result<(), StoreError> {
        self.commit(move |tx| {
            tx.release_blob(sha256);
            Ok(())
        })
        .await
    }

    /// The photo that this owner sent with these bytes before, where they are still here: they need no room. Answered and remembered as
    /// [`Store::add_photo`] would.
    pub async fn known_photo(
        &self,
        owner: UserId,
        sha256: Sha256,
        said: ClientInfo,
        idempotency: Option<Idempotency>,
    ) -> Result<Option<Photo>, StoreError> {
        self.commit(move |tx| {
            replayed(tx, idempotency.as_ref())?;
            let Some(id) = tx.get::<PhotoId>(&rows::duplicate(&owner, &sha256))? else { return Ok(None) };
            let said_to_be_here = tx.get::<Photo>(&rows::photo(id))?.is_some_and(|photo| photo.on_disk);
            // A blob that was lost is not vouched for: the sender's copy may be the last one.
            if !said_to_be_here || !tx.options().state.join(blob_name(&sha256)).is_file() {
                return Ok(None);
            }
            let photo = known_again(tx, id, said)?;
            remember(tx, idempotency, Answer::KnownPhoto(id))?;
            Ok(Some(photo))
        })
        .await
    }

    /// Removes the original (the blob when no other owner has it), its jobs' local results and retained states, and queues the
    /// deletion of its objects. The jobs' rows stay, without files. Results of other photos that it was merged into are theirs, and stay.
    pub async fn delete_photo(&self, id: PhotoId) -> Result<(), StoreError> {
        self.commit(move |tx| {
            let photo: Photo = tx.get(&rows::photo(id))?.ok_or(StoreError::NotFound("photo"))?;
            if tx.is_needed(id)? {
                return Err(StoreError::PhotoInUse);
            }
            let jobs = tx.jobs_of(id)?;
            let mut objects = withdraw_uploads(tx, &photo, &jobs)?;
            if photo.uploaded {
                objects.push(photo.s3_key());
            }
            for job in jobs {
                objects.extend(forget_result(tx, job)?);
            }
            if tx.options().uploads {
                objects.sort();
                objects.dedup();
                for key in objects {
                    queue_upload(tx, Subject::Deleted, key, None)?;
                }
            }
            tx.delete(rows::photo(id));
            tx.delete(rows::duplicate(&photo.user_id, &photo.sha256));
            tx.release_blob(photo.sha256);
            Ok(())
        })
        .await
    }
}

/// The same bytes again: where the original was evicted, this copy takes its place. What the sender says about it fills what nobody said
/// before and changes nothing that somebody did (docs/decisions/0015).
fn known_again(tx: &mut Tx<'_>, id: PhotoId, said: ClientInfo) -> Result<Photo, StoreError> {
    let before: Photo = tx.get(&rows::photo(id))?.ok_or(StoreError::NotFound("photo"))?;
    let photo = Photo { on_disk: true, client: before.client.clone().filled_by(said), ..before.clone() };
    if photo != before {
        tx.put(rows::photo(id), &photo)?;
    }
    // Its upload was given up while the original was lost.
    if tx.options().uploads && tx.options().upload_originals && !photo.uploaded {
        original_upload(tx, &photo)?;
    }
    Ok(photo)
}

fn insert(tx: &mut Tx<'_>, id: PhotoId, new: NewPhoto) -> Result<Photo, StoreError> {
    let photo = Photo {
        id,
        seq: tx.next_row(),
        user_id: new.user_id,
        sha256: new.sha256,
        bytes: new.bytes,
        width: new.width,
        height: new.height,
        content_type: new.content_type,
        source: new.source,
        client: new.client,
        received_at: tx.now.wall,
        on_disk: true,
        uploaded: false,
    };
    tx.put(rows::photo(id), &photo)?;
    tx.put(rows::duplicate(&photo.user_id, &photo.sha256), &id)?;
    if tx.options().uploads && tx.options().upload_originals {
        queue_original(tx, &photo)?;
    }
    Ok(photo)
}

/// A job without its result: files go, retained state goes; returns the objects that the bucket has of it.
fn forget_result(tx: &mut Tx<'_>, mut job: Job) -> Result<Vec<String>, StoreError> {
    let mut objects = Vec::new();
    if job.upload != UploadStatus::Off && job.status == Status::Completed {
        let endings = [".jpg", ".png", ".json"].into_iter().chain(tx.options().upload_synthetic.then_some(".synthetic.png"));
        objects.extend(endings.map(|e| job.s3_key(e)));
    }
    job.leave_disk();
    job.upload = UploadStatus::Off;
    // The clinic's own reference goes with the photo that it was about.
    job.client = ClientInfo::default();
    tx.delete(rows::awaited(job.id));
    tx.remove_later(&result_name(job.id));
    tx.remove_later(&refused_name(job.id));
    if tx.options().mqtt {
        let after = tx.last_event();
        tx.clear_state(job.id, after, std::time::Duration::ZERO)?;
    }
    tx.put_job(Some(job.status), &job)?;
    Ok(objects)
}
