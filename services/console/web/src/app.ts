// The meeting page: join, tiles, controls, and where the media goes.
import { ConnectionState, DisconnectReason, type Participant, Room, RoomEvent } from "livekit-client";
import { Tiles } from "./tiles.js";
import { render, sentence, summary, type Where } from "./where.js";

function byId<T extends HTMLElement>(id: string): T {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no element ${id}`);
  return element as T;
}

const door = byId("door");
const meeting = byId("meeting");
const problem = byId("problem");
const panel = byId("where");
const skip = byId("skip");
const info = byId<HTMLButtonElement>("info");
const live = byId("live");
const roomInput = byId<HTMLInputElement>("room");
const nameInput = byId<HTMLInputElement>("name");
const joinButton = byId<HTMLButtonElement>("join-button");
const tiles = new Tiles(byId("stage"));

let room: Room | undefined;
let token = "";
let said = "";
// Has the node that carries us told us itself?
let heard = false;
let joining = false;

const query = new URLSearchParams(location.search);
roomInput.value = query.get("room") ?? "demo";
nameInput.value = query.get("name") ?? "";

function show(text: string): void {
  problem.textContent = text;
  problem.hidden = text === "";
}

// For eyes and for screen readers; each goes by itself, and none hides another.
function say(text: string): void {
  const words = document.createElement("span");
  words.textContent = text;
  live.append(words);
  setTimeout(() => words.remove(), 7000);
}

// A token comes with the link (`#token=`) or, where the operator allows guests, from the gateway.
async function obtainToken(roomName: string, name: string): Promise<string> {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) return given;
  const answer = await fetch("/systir/v1/guest-token", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ room: roomName, name }),
  });
  const body = await answer.text();
  if (!answer.ok) throw new Error(body || `the gateway answered ${answer.status}`);
  return (JSON.parse(body) as { token: string }).token;
}

// The client library hides why a join was refused; the validate address says it.
async function reasonOf(error: unknown): Promise<string> {
  try {
    const answer = await fetch("/rtc/validate", { headers: { authorization: `Bearer ${token}` } });
    if (!answer.ok) return await answer.text();
  } catch {
    return "The gateway cannot be reached. Check your connection and try again.";
  }
  return error instanceof Error ? error.message : String(error);
}

async function join(event: Event): Promise<void> {
  event.preventDefault();
  if (joining) return;
  joining = true;
  show("");
  // Not `disabled`: that would take the focus away from whoever pressed it.
  joinButton.setAttribute("aria-disabled", "true");
  joinButton.textContent = "Joining…";
  try {
    token = await obtainToken(roomInput.value.trim(), nameInput.value.trim());
    heard = false;
    room = new Room({ adaptiveStream: true, dynacast: true, singlePeerConnection: false });
    listen(room);
    await room.connect(location.origin.replace(/^http/, "ws"), token);
    enter(room.name);
    refresh();
    void loadWhere();
    await publish(room);
  } catch (error) {
    const connected = room?.state === ConnectionState.Connected;
    if (!connected) {
      show(await reasonOf(error));
      room = undefined;
    }
  } finally {
    joining = false;
    joinButton.removeAttribute("aria-disabled");
    joinButton.textContent = "Join";
  }
}

// The focus goes along, so that a keyboard or a screen reader is never left on something hidden.
function enter(name: string): void {
  door.hidden = true;
  meeting.hidden = skip.hidden = false;
  const title = byId("title");
  title.textContent = name;
  document.title = `${name} – Systir meeting`;
  title.focus();
}

function goBack(): void {
  toggleWhere(false);
  meeting.hidden = skip.hidden = true;
  door.hidden = false;
  document.title = "Systir meeting";
  joinButton.focus();
}

async function publish(current: Room): Promise<void> {
  const wants: [string, boolean, () => Promise<unknown>][] = [
    ["microphone", byId<HTMLInputElement>("with-mic").checked, () => current.localParticipant.setMicrophoneEnabled(true)],
    ["camera", byId<HTMLInputElement>("with-cam").checked, () => current.localParticipant.setCameraEnabled(true)],
  ];
  for (const [device, wanted, start] of wants) {
    if (!wanted) continue;
    try {
      await start();
    } catch {
      say(`Your ${device} could not be started; you can try again with its button.`);
    }
    refresh();
  }
}

function listen(current: Room): void {
  const change = [
    RoomEvent.ParticipantConnected, RoomEvent.ParticipantDisconnected, RoomEvent.TrackSubscribed, RoomEvent.TrackUnsubscribed,
    RoomEvent.TrackMuted, RoomEvent.TrackUnmuted, RoomEvent.TrackPublished, RoomEvent.TrackUnpublished, RoomEvent.LocalTrackPublished, RoomEvent.LocalTrackUnpublished,
    RoomEvent.ParticipantNameChanged, RoomEvent.ParticipantAttributesChanged, RoomEvent.Connected, RoomEvent.Reconnected,
  ] as const;
  for (const name of change) current.on(name, refresh);
  current.on(RoomEvent.ParticipantConnected, (who: Participant) => say(`${who.name || who.identity} joined`));
  current.on(RoomEvent.ParticipantDisconnected, (who: Participant) => say(`${who.name || who.identity} left`));
  current.on(RoomEvent.ActiveSpeakersChanged, (speakers: Participant[]) => tiles.speaking(new Set(speakers.map((who) => who.identity))));
  current.on(RoomEvent.Reconnecting, () => say("The connection broke; reconnecting."));
  current.on(RoomEvent.DataReceived, (payload: Uint8Array, _who, _kind, topic) => {
    if (topic !== "systir.where") return;
    heard = true;
    accept(new TextDecoder().decode(payload));
  });
  current.on(RoomEvent.Disconnected, (reason) => {
    // Before the meeting is entered, join() shows why the gateway refused.
    if (meeting.hidden) return;
    goBack();
    if (reason !== undefined && reason !== DisconnectReason.CLIENT_INITIATED) {
      show(reason === DisconnectReason.DUPLICATE_IDENTITY ? "You joined from another place; this one was closed." : "The meeting ended or the connection was lost.");
    }
    room = undefined;
  });
}

function refresh(): void {
  if (!room) return;
  const everyone: Participant[] = [room.localParticipant, ...room.remoteParticipants.values()];
  tiles.refresh(everyone);
  byId("count").textContent = everyone.length === 1 ? "you are alone" : `${everyone.length} people`;
  const me = room.localParticipant;
  press("mic", me.isMicrophoneEnabled);
  press("cam", me.isCameraEnabled);
  press("screen", me.isScreenShareEnabled);
}

function press(id: string, on: boolean): void {
  byId(id).setAttribute("aria-pressed", String(on));
}

// For the time until the media node speaks: a gateway may not carry the meeting and know less. Each
// change comes from the media node, in order, so nothing of it is ever replaced by an answer from here.
async function loadWhere(): Promise<void> {
  if (!room) return;
  try {
    const answer = await fetch(`/systir/v1/rooms/${encodeURIComponent(room.name)}/where`, { headers: { authorization: `Bearer ${token}` } });
    const text = await answer.text();
    if (answer.ok && !heard) accept(text);
  } catch {
    if (!heard) byId("where-short").textContent = "Where is my data? (not known now)";
  }
}

function accept(text: string): void {
  const where = JSON.parse(text) as Where;
  const mine = room?.localParticipant.attributes ?? {};
  render(byId("where-body"), where, { media: mine["systir.node"], gateway: mine["systir.gateway"] });
  byId("where-short").textContent = summary(where);
  const words = sentence(where);
  if (said !== "" && said !== words) say(words);
  said = words;
}

function toggleWhere(open: boolean): void {
  panel.hidden = !open;
  info.setAttribute("aria-expanded", String(open));
}

function closeWhere(): void {
  toggleWhere(false);
  info.focus();
}

async function toggle(id: string, act: (me: Room["localParticipant"]) => Promise<unknown>): Promise<void> {
  if (!room) return;
  const button = byId<HTMLButtonElement>(id);
  if (button.getAttribute("aria-busy") === "true") return;
  button.setAttribute("aria-busy", "true");
  try {
    await act(room.localParticipant);
  } catch {
    say("That could not be started; check the browser's permissions.");
  } finally {
    button.removeAttribute("aria-busy");
    refresh();
  }
}

// Phones cannot share their screen.
byId("screen").hidden = typeof navigator.mediaDevices?.getDisplayMedia !== "function";
byId("join").addEventListener("submit", (event) => void join(event));
byId("mic").addEventListener("click", () => void toggle("mic", (me) => me.setMicrophoneEnabled(!me.isMicrophoneEnabled)));
byId("cam").addEventListener("click", () => void toggle("cam", (me) => me.setCameraEnabled(!me.isCameraEnabled)));
byId("screen").addEventListener("click", () => void toggle("screen", (me) => me.setScreenShareEnabled(!me.isScreenShareEnabled)));
byId("leave").addEventListener("click", () => void room?.disconnect());
info.addEventListener("click", () => {
  toggleWhere(panel.hidden);
  if (!panel.hidden) byId("where-title").focus();
});
byId("where-close").addEventListener("click", closeWhere);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !panel.hidden) closeWhere();
});
// End-to-end tests and the curious look at the meeting through this.
Object.assign(window, { systirRoom: () => room });
