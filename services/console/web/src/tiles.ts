// The stage: one tile per participant (camera, or initials without video) and one per shared screen.
import { type Participant, Track, type TrackPublication } from "livekit-client";

export class Tiles {
  constructor(private readonly stage: HTMLElement) {}

  refresh(participants: Participant[]): void {
    const wanted = new Set<string>();
    for (const participant of participants) {
      this.tile(wanted, participant, participant.getTrackPublication(Track.Source.Camera), false);
      const share = participant.getTrackPublication(Track.Source.ScreenShare);
      if (share?.videoTrack) this.tile(wanted, participant, share, true);
      this.attachAudio(participant);
    }
    for (const element of [...this.stage.children]) {
      if (element instanceof HTMLElement && !wanted.has(element.dataset["key"] ?? "")) element.remove();
    }
  }

  speaking(identities: Set<string>): void {
    for (const element of this.stage.children) {
      if (element instanceof HTMLElement) element.classList.toggle("speaking", identities.has(element.dataset["identity"] ?? ""));
    }
  }

  private tile(wanted: Set<string>, participant: Participant, publication: TrackPublication | undefined, share: boolean): void {
    const key = `${participant.identity}/${share ? "screen" : "camera"}`;
    wanted.add(key);
    let tile = [...this.stage.children].find((element): element is HTMLElement => element instanceof HTMLElement && element.dataset["key"] === key);
    if (!tile) {
      tile = document.createElement("article");
      tile.className = "tile";
      tile.dataset["key"] = key;
      tile.dataset["identity"] = share ? "" : participant.identity;
      const initials = document.createElement("div");
      initials.className = "initials";
      initials.setAttribute("aria-hidden", "true");
      const label = document.createElement("div");
      label.className = "label";
      label.append(document.createElement("span"), document.createElement("span"));
      tile.append(initials, label);
      this.stage.append(tile);
    }
    const name = participant.name || participant.identity;
    const title = share ? `${name}'s screen` : participant.isLocal ? `${name} (you)` : name;
    const muted = !share && !participant.isMicrophoneEnabled;
    tile.setAttribute("aria-label", muted ? `${title}, muted` : title);
    tile.classList.toggle("share", share);
    tile.classList.toggle("mirror", participant.isLocal && !share);
    const initials = tile.querySelector(".initials");
    if (initials) initials.textContent = name.trim().slice(0, 2).toUpperCase();
    const [first, second] = tile.querySelectorAll(".label span");
    if (first) first.textContent = title;
    if (second instanceof HTMLElement) {
      second.textContent = "muted";
      second.hidden = !muted;
    }
    const track = publication && !publication.isMuted ? publication.videoTrack : undefined;
    const video = tile.querySelector("video");
    if (!track) {
      video?.remove();
    } else if (!video || video.dataset["sid"] !== track.sid || track.attachedElements.length === 0) {
      video?.remove();
      const element = track.attach();
      if (element instanceof HTMLVideoElement) {
        element.muted = true;
        element.dataset["sid"] = track.sid ?? "";
        tile.prepend(element);
      }
    }
  }

  private attachAudio(participant: Participant): void {
    if (participant.isLocal) return;
    for (const publication of participant.audioTrackPublications.values()) {
      const track = publication.audioTrack;
      if (track && track.attachedElements.length === 0) track.attach();
    }
  }
}
