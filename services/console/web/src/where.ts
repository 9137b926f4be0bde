// "Where is my data": the relay's statement about the meeting's nodes and links, as a diagram and as text.
// All facts in it are *declared*: the operator states them in a directory that it signed, nobody has verified them.

export interface WhereNode {
  node: string;
  roles: string[];
  site: string;
  region: string;
  country: string;
  operator: string;
  operator_controlled_from: string;
  host: string;
  host_controlled_from: string;
  own_machine: boolean;
  statement: string;
  declared_by: string;
  directory_version?: number;
  directory_signers?: string[];
  rule: string;
  why: string;
  since?: number;
}

export interface WhereLink {
  a: string;
  b: string;
  state: string;
  seen_by: string[];
}

export interface WherePolicy {
  version: number;
  hash: string;
  signers: string[];
  room_class: string;
  e2ee_required: boolean;
}

export interface WhereGrant {
  home: string;
  epoch: number;
  serial: number;
  issued_ms: number;
}

export interface Where {
  room: string;
  institution: string;
  policy_version: string;
  policy?: WherePolicy;
  grant?: WhereGrant;
  reported_by: string;
  complete: boolean;
  nodes: WhereNode[];
  links: WhereLink[];
}

const regions = typeof Intl.DisplayNames === "function" ? new Intl.DisplayNames(["en"], { type: "region" }) : undefined;

export function country(code: string): string {
  try {
    return regions?.of(code) ?? code;
  } catch {
    return code;
  }
}

const roleWords: Record<string, string> = {
  home: "home",
  spill: "sister (spill)",
  gateway: "gateway",
  transit: "transit",
};

export function summary(where: Where): string {
  const places = [...new Set(media(where).map((node) => country(node.country)))];
  if (places.length === 0) return "Where is my data?";
  return places.length === 1 ? `Relayed in ${places[0]}` : `Relayed in ${places.slice(0, -1).join(", ")} and ${places.at(-1)}`;
}

export function sentence(where: Where): string {
  const nodes = media(where);
  if (nodes.length === 0) return "No server relays this meeting's media at the moment.";
  const places = nodes.map((node) => `${node.node} in ${node.site}, ${country(node.country)}`);
  const list = places.length === 1 ? places[0] : `${places.slice(0, -1).join("; ")}; and ${places.at(-1)}`;
  const leased = nodes.filter((node) => !node.own_machine).map((node) => `${node.node} is not a machine of ${node.operator}'s own.`);
  return [`This meeting's media is relayed by ${list}.`, ...leased].join(" ");
}

function media(where: Where): WhereNode[] {
  return where.nodes.filter((node) => node.roles.includes("home") || node.roles.includes("spill"));
}

function el<K extends keyof HTMLElementTagNameMap>(tag: K, text?: string, className?: string): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
}

function svg(tag: string, attributes: Record<string, string | number>, text?: string): SVGElement {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  if (text !== undefined) element.textContent = text;
  return element;
}

// Nodes in rows, the home node first, with links as lines between them. "You" is below the media node. A dotted line
// leads to the gateway, if that is another node.
function diagram(where: Where, you: { media?: string; gateway?: string }): SVGElement {
  const width = 340;
  const nodes = [...where.nodes].sort((a, b) => Number(b.roles.includes("home")) - Number(a.roles.includes("home")));
  const columns = Math.max(1, Math.min(nodes.length, 3));
  const rows = Math.ceil(nodes.length / columns);
  const height = rows * 86 + 54;
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": sentence(where) });
  const positions = new Map<string, { x: number; y: number }>();
  nodes.forEach((node, index) => {
    const x = ((index % columns) + 0.5) * (width / columns);
    const y = Math.floor(index / columns) * 86 + 36;
    positions.set(node.node, { x, y });
  });
  for (const link of where.links) {
    const a = positions.get(link.a);
    const b = positions.get(link.b);
    if (a && b) root.append(svg("line", { x1: a.x, y1: a.y, x2: b.x, y2: b.y, class: link.state === "up" ? "edge link-line" : "edge link-line down" }));
  }
  const mediaAt = you.media ? positions.get(you.media) : undefined;
  const gatewayAt = you.gateway && you.gateway !== you.media ? positions.get(you.gateway) : undefined;
  if (mediaAt) {
    if (gatewayAt) root.append(svg("line", { x1: gatewayAt.x, y1: gatewayAt.y + 26, x2: mediaAt.x, y2: height - 20, class: "edge signalling" }));
    root.append(svg("line", { x1: mediaAt.x, y1: mediaAt.y + 26, x2: mediaAt.x, y2: height - 24, class: "edge" }));
    root.append(svg("circle", { cx: mediaAt.x, cy: height - 20, r: 7, fill: "var(--accent)" }));
    const left = gatewayAt !== undefined && gatewayAt.x > mediaAt.x;
    root.append(svg("text", { x: mediaAt.x + (left ? -13 : 13), y: height - 16, class: "small", "text-anchor": left ? "end" : "start" }, "you"));
  }
  const half = Math.min(100, width / columns - 12) / 2;
  for (const node of nodes) {
    const at = positions.get(node.node);
    if (!at) continue;
    const kind = !node.own_machine ? "box foreign" : node.roles.includes("home") ? "box home" : "box";
    root.append(svg("rect", { x: at.x - half, y: at.y - 26, width: half * 2, height: 52, rx: 12, class: kind }));
    root.append(svg("text", { x: at.x, y: at.y - 3, "text-anchor": "middle" }, node.node));
    root.append(svg("text", { x: at.x, y: at.y + 13, "text-anchor": "middle", class: "small" }, country(node.country)));
  }
  return root;
}

// Fingerprints, to compare with those that the institution or the operator published.
function keys(signers: string[] | undefined): string {
  if (!signers || signers.length === 0) return "by no known key";
  return `key ${signers.join(" and ")}`;
}

// Words for how long ago something was. A clock that is ahead shows no negative age.
function ago(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 60) return `${seconds} s ago`;
  return seconds < 3600 ? `${Math.floor(seconds / 60)} min ago` : `${Math.floor(seconds / 3600)} h ago`;
}

// Writes the ages of the grants shown in the panel anew. `now` is the time by the gateway's clock, milliseconds.
export function showAges(panel: HTMLElement, now: number): void {
  for (const age of panel.querySelectorAll<HTMLTimeElement>("time.age")) {
    age.textContent = ago(now - Date.parse(age.dateTime));
  }
}

// What the statement rests on: the institution's policy and the grant of the room's home.
function basis(where: Where): HTMLElement {
  const box = el("article", undefined, "basis");
  box.append(el("h3", "What this rests on"));
  const list = el("dl");
  const row = (name: string, ...value: (Node | string)[]) => {
    const text = el("dd");
    text.append(...value);
    list.append(el("dt", name), text);
  };
  const { policy, grant } = where;
  row("Policy", `${where.institution}, version ${policy?.version ?? where.policy_version}`);
  if (policy) {
    row("Signed", `by ${where.institution}, ${keys(policy.signers)}`);
    const page = el("a", "what it permits, and what is proved of its text");
    page.href = `/systir/v1/policy/${encodeURIComponent(where.institution)}`;
    page.target = "_blank";
    page.rel = "noopener";
    row("In words", page);
    row("Room class", `${policy.room_class}${policy.e2ee_required ? ", only with end-to-end encryption" : ""}`);
  }
  if (grant) {
    const issued = new Date(grant.issued_ms);
    const age = el("time", undefined, "age");
    age.dateTime = issued.toISOString();
    const signed = grant.serial > 1 ? "renewed" : "signed";
    row("Grant", `epoch ${grant.epoch}, ${signed} by ${grant.home} `, age, ` (number ${grant.serial}, ${issued.toLocaleTimeString()})`);
  }
  box.append(list);
  return box;
}

function card(node: WhereNode, you: { media?: string; gateway?: string }): HTMLElement {
  const box = el("article", undefined, "node");
  const title = el("h3", node.node);
  for (const role of node.roles) title.append(el("span", roleWords[role] ?? role, "badge"));
  if (you.media === node.node) title.append(el("span", "carries your media", "badge"));
  box.append(title);
  const list = el("dl");
  const row = (name: string, value: string) => list.append(el("dt", name), el("dd", value));
  row("Where", `${node.site}, ${country(node.country)}`);
  row("Region", node.region);
  row("Run by", `${node.operator} (controlled from ${country(node.operator_controlled_from)})`);
  row("Machine of", `${node.host} (controlled from ${country(node.host_controlled_from)})`);
  row("Statement", `${node.statement} by ${node.declared_by}`);
  if (node.directory_version !== undefined) {
    row("Signed", `by ${node.declared_by}, directory version ${node.directory_version}, ${keys(node.directory_signers)}`);
  }
  row("Allowed by", `${node.why} [${node.rule}]`);
  if (node.since) row("Since", new Date(node.since).toLocaleString());
  box.append(list);
  if (!node.own_machine) {
    box.append(el("p", `This machine is not ${node.operator}'s own. It belongs to ${node.host}, which is controlled from ${country(node.host_controlled_from)}.`, "warning"));
  }
  return box;
}

export function render(panel: HTMLElement, where: Where, you: { media?: string; gateway?: string }, now: number): void {
  const children: Node[] = [
    el("p", sentence(where), "sentence"),
    diagram(where, you),
    ...where.links.map((link) => el("p", `${link.a} and ${link.b} ${link.state === "up" ? "are linked for this meeting" : "are not linked for this meeting at the moment"}, reported by ${link.seen_by.join(" and ")}.`, "link")),
    ...where.nodes.map((node) => card(node, you)),
    basis(where),
  ];
  const signalling = you.gateway && you.gateway !== you.media ? `Your signalling ends at ${you.gateway}. ` : "";
  const partial = where.complete ? "" : `This statement is from ${where.reported_by}, which does not carry the meeting and knows neither its links nor its other gateways. `;
  const declared = "“Declared” means: the named operator states it and signed it; nobody else has verified it yet. A grant binds the meeting to these nodes; its home signs it with its node key, again and again. “Proved” is said only of the policy's text, on its page; where a machine stands is never proved.";
  children.push(el("p", `${signalling}${partial}${declared}`, "foot"));
  panel.replaceChildren(...children);
  showAges(panel, now);
}
