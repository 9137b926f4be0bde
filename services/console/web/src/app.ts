// The meeting page: join form, tiles, controls, and the "where is my data" panel.
import { ConnectionState, DisconnectReason, type Participant, Room, RoomEvent } from "livekit-client";
import { Tiles } from "./tiles.js";
import { render, sentence, showAges, summary, type Where } from "./where.js";

function byId<T extends HTMLElement>(id: string): T {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no element ${id}`);
  return element as T;
}

const joinView = byId("join-view");
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
// The sentence of the last statement, to announce only changes.
let lastSentence = "";
// Has a statement arrived from the media node (data topic)?
let fromMediaNode = false;
let joining = false;
// The gateway's clock minus the browser's, milliseconds: the ages of grants must not depend on the browser's clock.
let clockOffset = 0;

const query = new URLSearchParams(location.search);
roomInput.value = query.get("room") ?? "demo";
nameInput.value = query.get("name") ?? "";

function showProblem(text: string): void {
  problem.textContent = text;
  problem.hidden = text === "";
}

// Shows a message in the live region, which screen readers read out. Each message disappears after 7 s.
function announce(text: string): void {
  const message = document.createElement("span");
  message.textContent = text;
  live.append(message);
  setTimeout(() => message.remove(), 7000);
}

// The token is in the link (`#token=`). Without one the gateway issues a guest token, if the operator allows guests.
async function obtainToken(roomName: string, name: string): Promise<string> {
  const fromLink = new URLSearchParams(location.hash.slice(1)).get("token");
  if (fromLink) return fromLink;
  const answer = await fetch("/systir/v1/guest-token", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ room: roomName, name }),
  });
  const body = await answer.text();
  if (!answer.ok) throw new Error(body || `the gateway answered ${answer.status}`);
  return (JSON.parse(body) as { token: string }).token;
}

// The client library does not report why a join was refused; `/rtc/validate` does.
async function refusalReason(error: unknown): Promise<string> {
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
  showProblem("");
  // Not `disabled`: a disabled button loses the keyboard focus.
  joinButton.setAttribute("aria-disabled", "true");
  joinButton.textContent = "Joining…";
  try {
    token = await obtainToken(roomInput.value.trim(), nameInput.value.trim());
    fromMediaNode = false;
    room = new Room({ adaptiveStream: true, dynacast: true, singlePeerConnection: false });
    listen(room);
    await room.connect(location.origin.replace(/^http/, "ws"), token);
    showMeeting(room.name);
    refresh();
    void loadWhere();
    await publish(room);
  } catch (error) {
    const connected = room?.state === ConnectionState.Connected;
    if (!connected) {
      showProblem(await refusalReason(error));
      room = undefined;
    }
  } finally {
    joining = false;
    joinButton.removeAttribute("aria-disabled");
    joinButton.textContent = "Join";
  }
}

// Moves the focus too: for keyboards and screen readers it must not stay on a hidden element.
function showMeeting(name: string): void {
  joinView.hidden = true;
  meeting.hidden = skip.hidden = false;
  const title = byId("title");
  title.textContent = name;
  document.title = `${name} – Systir meeting`;
  title.focus();
}

function showJoinForm(): void {
  toggleWhere(false);
  meeting.hidden = skip.hidden = true;
  joinView.hidden = false;
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
      announce(`Your ${device} could not be started. Try again with its button.`);
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
  // livekit-client holds events back that come just after a reconnect, until the next reconnect: tracks would not be shown.
  const refreshing = setInterval(refresh, 1_000);
  current.on(RoomEvent.Disconnected, () => clearInterval(refreshing));
  current.on(RoomEvent.ParticipantConnected, (participant: Participant) => announce(`${participant.name || participant.identity} joined`));
  current.on(RoomEvent.ParticipantDisconnected, (participant: Participant) => announce(`${participant.name || participant.identity} left`));
  current.on(RoomEvent.ActiveSpeakersChanged, (speakers: Participant[]) => tiles.speaking(new Set(speakers.map((speaker) => speaker.identity))));
  current.on(RoomEvent.Reconnecting, () => announce("Connection lost; reconnecting."));
  current.on(RoomEvent.DataReceived, (payload: Uint8Array, _participant, _kind, topic) => {
    if (topic !== "systir.where") return;
    fromMediaNode = true;
    showStatement(new TextDecoder().decode(payload));
  });
  current.on(RoomEvent.Disconnected, (reason) => {
    // While the join form is visible, join() shows why the gateway refused.
    if (meeting.hidden) return;
    showJoinForm();
    if (reason !== undefined && reason !== DisconnectReason.CLIENT_INITIATED) {
      showProblem(reason === DisconnectReason.DUPLICATE_IDENTITY ? "You joined again from another device or tab; this connection was closed." : "The meeting ended or the connection was lost.");
    }
    room = undefined;
  });
}

function refresh(): void {
  if (!room) return;
  const participants: Participant[] = [room.localParticipant, ...room.remoteParticipants.values()];
  tiles.refresh(participants);
  byId("count").textContent = participants.length === 1 ? "1 participant" : `${participants.length} participants`;
  const me = room.localParticipant;
  setPressed("mic", me.isMicrophoneEnabled);
  setPressed("cam", me.isCameraEnabled);
  setPressed("screen", me.isScreenShareEnabled);
}

function setPressed(id: string, on: boolean): void {
  byId(id).setAttribute("aria-pressed", String(on));
}

// Fetches a first statement from the gateway, which may not carry the meeting and then knows less than the media
// node. The media node sends every change, in order, so its statements are never replaced by this answer.
async function loadWhere(): Promise<void> {
  if (!room) return;
  try {
    const answer = await fetch(`/systir/v1/rooms/${encodeURIComponent(room.name)}/where`, { headers: { authorization: `Bearer ${token}` } });
    const gatewayTime = Date.parse(answer.headers.get("date") ?? "");
    if (!Number.isNaN(gatewayTime)) clockOffset = gatewayTime - Date.now();
    const text = await answer.text();
    if (answer.ok && !fromMediaNode) showStatement(text);
  } catch {
    if (!fromMediaNode) byId("where-short").textContent = "Where is my data? (not available)";
  }
}

function gatewayNow(): number {
  return Date.now() + clockOffset;
}

function showStatement(text: string): void {
  const where = JSON.parse(text) as Where;
  const attributes = room?.localParticipant.attributes ?? {};
  render(byId("where-body"), where, { media: attributes["systir.node"], gateway: attributes["systir.gateway"] }, gatewayNow());
  byId("where-short").textContent = summary(where);
  const current = sentence(where);
  if (lastSentence !== "" && lastSentence !== current) announce(current);
  lastSentence = current;
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
    announce("It could not be started; check the browser's permissions.");
  } finally {
    button.removeAttribute("aria-busy");
    refresh();
  }
}

// Browsers on phones cannot share the screen.
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
setInterval(() => showAges(byId("where-body"), gatewayNow()), 1000);
// For end-to-end tests and for debugging in the browser's console.
Object.assign(window, { systirRoom: () => room });
