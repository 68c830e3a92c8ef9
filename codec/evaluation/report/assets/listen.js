// Sounds to compare: one plays at a time, and another of the same file goes on where the last one is.

function showExhibits(sheets) {
  let last = null;
  const started = ({ target }) => {
    if (last && last !== target && !last.paused) {
      last.pause();
      if (last.closest(".sheet") === target.closest(".sheet")) target.currentTime = last.currentTime;
    }
    last = target;
  };
  sheets.addEventListener("play", started, true); // this event does not bubble
}
