// Every sentence of the page, in one place: a translation is another object with these keys.

export const TEXT = {
  signInTitle: 'Sign in',
  signInHelp: 'Paste the token that you were given for this device.',
  token: 'Token',
  signIn: 'Sign in',
  signOut: 'Sign out',
  signInWrong: 'This token is not known here. Check that all of it was pasted, or ask for a new one.',

  connected: 'Connected',
  lost: 'No connection to the device. Trying again by itself; photos that were sent are safe.',

  newPhoto: 'New photo',
  whichEye: 'Which eye?',
  eyeRight: 'Right',
  eyeLeft: 'Left',
  eyeUnsaid: 'Not said',
  camera: 'Camera',
  capture: 'Take the photo',
  capturing: 'Taking the photo …',
  cameraOpening: 'The camera is starting …',
  cameraGone: 'The camera is not there. Check its cable; it comes back by itself.',
  cameraFolder: 'A watched folder: photos that are put there are worked on by themselves.',
  cameraNoView: 'No live picture just now.',
  previewOf: 'Live picture of camera {name}',
  choosePhoto: 'Choose photos',
  takePhoto: 'Use this phone’s camera',
  dropHint: 'Or drop up to 10 photos here.',
  dropHere: 'Drop to send',
  sending: 'Sending photo {n} of {all} … {percent} %',
  sendingOne: 'Sending the photo … {percent} %',
  submitting: 'Received. Starting …',
  tooMany: 'Only 10 photos can be sent at once. The first 10 were taken.',
  close: 'Close',

  welcome: 'Ready for a photo',
  welcomeText: 'The result appears here, beside the original.',
  tip1: 'Come close: the iris should fill a third of the picture.',
  tip2: 'Even light; no lamp reflected in the pupil.',
  tip3: 'Eye wide open, looking straight into the camera.',
  tip4: 'Hold still until it is sharp.',

  step_load: 'Read the photo',
  step_segment: 'Find the iris',
  step_reflections: 'Remove reflections',
  step_enhance: 'Enlarge and enhance',
  step_save: 'Save',
  step_done: 'done',
  step_active: 'working',
  step_failed: 'stopped here',
  step_waiting: 'to come',
  steps: 'Steps',

  pending: 'Waiting',
  processing: 'Working',
  completed: 'Ready',
  failed: 'Failed',
  refused: 'New photo needed',
  cancelled: 'Cancelled',
  all: 'All',
  waitingNext: 'It is next.',
  waitingBehind: '{n} before it.',
  waitingAbout: 'About {time}.',
  attempt: 'Attempt {n}',

  before: 'Original',
  after: 'Enhanced',
  slider: 'Slide between the original and the enhanced picture',
  notice: 'Enhanced, not for diagnosis.',
  original: 'The photo that was sent',
  marked: 'The photo, small, with what is wrong marked on it',
  marks: 'Light blue: what was found. Red: what is wrong. White dashes: how it should be.',
  noOriginal: 'The original is no longer on this device.',
  noResult: 'The picture cannot be shown just now.',
  elsewhere: 'The full picture is in the clinic’s storage.',
  openElsewhere: 'Open the full picture',
  wholePhoto: 'The report could not be read; the original is shown whole and not aligned.',
  loadingResult: 'Loading the pictures …',
  factTime: 'Time',
  factMadeUp: 'Made-up pixels',
  factMadeUpHelp: 'Share of the iris where a reflection was replaced',
  factMerged: 'Photos used',
  factMergedHelp: 'What a reflection hides in one photo was taken from the others',
  factSize: 'Picture',
  factIris: 'Iris found',
  factUpload: 'Storage',
  factSure: '{percent} % sure',
  factNotSure: '{percent} % sure: look twice',
  upload_off: 'stays on this device',
  upload_pending: 'waiting to be stored',
  upload_uploading: 'being stored',
  upload_uploaded: 'stored',
  upload_failed: 'not stored yet; it is tried again',
  download: 'Save the picture',
  report: 'Report',
  again: 'Process again',
  cancel: 'Cancel',
  newOne: 'Take a new photo',
  cancelledText: 'This job was cancelled. The photo is kept.',
  whatToDo: 'What to do',
  code: 'Code',
  jobId: 'Job',

  jobs: 'Jobs',
  filter: 'Show',
  noJobs: 'Nothing here yet.',
  newer: 'Newer',
  older: 'Older',
  pages: 'Pages of the list',
  place: '{from}–{to} of {total}',
  openJob: 'Open job of {time}, {status}',

  sayStep: '{step}',
  sayDone: 'The result is ready.',
  sayFailed: 'The photo was not processed. {message} {suggestion}',

  offline: 'The device cannot be reached. Check the network and try again; nothing was lost.',
  odd: 'The device answered in an unexpected way ({status}).',
  oddHelp: 'Try again. If it stays so, contact support.',
  unit_s: '{n} s',
  unit_min: '{n} min',
};

/** The text of `key`, with `{name}` replaced by `values.name`. */
export function t(key, values = {}) {
  const text = TEXT[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? '');
}

/** Fills `data-text` and `data-label` of the page. */
export function fill(root) {
  for (const e of root.querySelectorAll('[data-text]')) e.textContent = t(e.dataset.text);
  for (const e of root.querySelectorAll('[data-label]')) e.setAttribute('aria-label', t(e.dataset.label));
}

/** Milliseconds as a person says them. */
export function duration(ms) {
  if (ms == null) return '';
  if (ms < 90_000) return t('unit_s', { n: ms < 9_950 ? (ms / 1000).toFixed(1) : Math.round(ms / 1000) });
  return t('unit_min', { n: Math.round(ms / 60_000) });
}

const SAME_DAY = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const OTHER_DAY = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' });

/** A stored time in the reader's zone: the hour today, with the date before that. */
export function when(rfc3339) {
  const at = new Date(rfc3339);
  if (Number.isNaN(at.getTime())) return '';
  return (at.toDateString() === new Date().toDateString() ? SAME_DAY : OTHER_DAY).format(at);
}
