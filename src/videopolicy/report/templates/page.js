"use strict";
const videos = [...document.querySelectorAll("video")];
const button = document.querySelector("button");
const still = matchMedia("(prefers-reduced-motion: reduce)");

function play(on) {
  for (const video of videos) {
    video.autoplay = on;
    if (on) video.play().catch(() => {}); else video.pause();
  }
  button.textContent = on ? "Pause all" : "Play all";
}

if (button) {
  button.hidden = false;
  button.addEventListener("click", () => play(button.textContent === "Play all"));
  still.addEventListener("change", () => play(!still.matches));
  play(!still.matches);
}
