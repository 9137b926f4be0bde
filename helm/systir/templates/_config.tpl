{{/* The configuration of one node: root, name (of the pool), pool, node. Strings and lists are written as JSON, which is
TOML too. */}}
{{- define "systir.config" -}}
{{- $values := .root.Values -}}
{{- $ports := $values.network.ports -}}
{{- $listen := $values.network.listen -}}
{{- $links := ternary .node "node" (eq $values.certificates.links.source "secret") -}}
{{- $etcd := ternary .node "node" (eq $values.certificates.etcd.source "secret") -}}
{{- $at := get .pool.nodes .node | default dict -}}
[node]
name = {{ toJson .node }}
cluster = {{ toJson $values.cluster.name }}
capacity = {{ int64 .pool.capacity }}
seats_per_identity = {{ int64 .pool.seatsPerIdentity }}
key = {{ printf "/var/lib/systir/key/%s-%s.key" (include "systir.trustDomain" .root) .node | toJson }}

[http]
{{- if .pool.gateway }}
listen = {{ printf "%s:%d" $listen (int64 $ports.http) | toJson }}
{{- if ne $values.signalling.mode "terminated" }}
certificate = "/etc/systir/http/tls.crt"
key = "/etc/systir/http/tls.key"
{{- end }}
{{- if or (eq $values.signalling.mode "terminated") (and (eq $values.signalling.mode "passthrough") (not $values.signalling.proxyProtocolFrom)) }}
behind_proxy = true
{{- end }}
{{- with $values.signalling.proxyProtocolFrom }}
proxy_protocol = {{ toJson . }}
{{- end }}
{{- else }}
{{- /* No client connects to it, so it holds no certificate for clients either. */}}
listen = {{ printf "127.0.0.1:%d" (int64 $ports.http) | toJson }}
{{- end }}
connections = {{ int64 $values.signalling.connections }}
max_token_hours = {{ int64 $values.signalling.maxTokenHours }}

[media]
listen = {{ printf "%s:%d" $listen (int64 $ports.media) | toJson }}
{{- if int $ports.iceTcp }}
tcp = {{ printf "%s:%d" $listen (int64 $ports.iceTcp) | toJson }}
{{- end }}
{{- if eq .pool.addresses "nodes" }}
advertise = {{ toJson $at.media }}
{{- end }}
workers = {{ int64 .pool.workers }}

[links]
quic = {{ printf "%s:%d" $listen (int64 $ports.quic) | toJson }}
grpc = {{ printf "%s:%d" $listen (int64 $ports.grpc) | toJson }}
{{- if eq .pool.addresses "nodes" }}
advertise = {{ toJson $at.links }}
{{- end }}
certificate = {{ printf "/etc/systir/links/%s.pem" $links | toJson }}
key = {{ printf "/etc/systir/links/%s.key" $links | toJson }}
ceiling_mbps = {{ int64 $values.network.linkCeilingMbps }}

[telemetry]
listen = {{ printf "127.0.0.1:%d" (int64 $ports.metrics) | toJson }}
{{- with $values.traces.otlp }}
otlp = {{ toJson . }}
{{- end }}
log = {{ toJson $values.logs.filter }}
json = {{ $values.logs.json }}

[registry]
etcd = {{ toJson $values.etcd.endpoints }}
ca = {{ printf "/etc/systir/etcd-ca/%s" $values.etcd.ca.key | toJson }}
certificate = {{ printf "/etc/systir/etcd/%s.pem" $etcd | toJson }}
key = {{ printf "/etc/systir/etcd/%s.key" $etcd | toJson }}
lease_seconds = {{ int64 $values.etcd.leaseSeconds }}

[drain]
deadline_seconds = {{ int64 $values.drain.deadlineSeconds }}
per_second = {{ int64 $values.drain.perSecond }}
{{- /* The pod has slept before SIGTERM. */}}
notice_seconds = 0

[journal]
keep_days = {{ int64 $values.journal.keepDays }}
day_mib = {{ int64 $values.journal.dayMib }}

[policy]
operator = {{ toJson $values.cluster.operator }}
documents = "/etc/systir/documents"
state = "/var/lib/systir/documents"
grant_seconds = {{ int64 $values.policy.grantSeconds }}
{{- range $name, $operator := $values.operators }}

[policy.operators.{{ toJson $name }}]
trust_domain = {{ toJson $operator.trustDomain }}
keys = {{ toJson $operator.keys }}
{{- with $operator.threshold }}
threshold = {{ int64 . }}
{{- end }}
{{- end }}
{{- range $name, $institution := $values.institutions }}

[policy.institutions.{{ toJson $name }}]
keys = {{ toJson $institution.keys }}
{{- with $institution.threshold }}
threshold = {{ int64 . }}
{{- end }}
{{- with $institution.seats }}
seats = {{ int64 . }}
{{- end }}
{{- end }}
{{- range $name := .pool.apiKeys }}
{{- $key := get $values.apiKeys $name }}

[keys.{{ toJson $name }}]
institution = {{ toJson $key.institution }}
secret_file = {{ printf "/etc/systir/keys/%s.secret" $name | toJson }}
{{- with $key.audience }}
audience = {{ toJson . }}
{{- end }}
{{- end }}
{{- range $name := .pool.roomKeys }}
{{- $key := get $values.roomKeys $name }}

[room_keys.{{ toJson $name }}]
institution = {{ toJson $key.institution }}
key_file = {{ printf "/etc/systir/keys/%s.room-key" $name | toJson }}
{{- if eq (toString $key.creates) "false" }}
creates = false
{{- end }}
{{- end }}
{{- if and $values.page.guestKey (has $values.page.guestKey .pool.apiKeys) }}

[page]
guest_key = {{ toJson $values.page.guestKey }}
{{- end }}
{{ end -}}

{{/* What must restart a pool's nodes when it changes: their configuration without the addresses of single nodes, so that a
new slot restarts nobody, and without pinned keys, which a running node takes from its file: root, name, pool. */}}
{{- define "systir.restartOn" -}}
{{- $config := include "systir.config" (dict "root" .root "name" .name "pool" .pool "node" "") -}}
{{- regexReplaceAll "(?m)^(keys|threshold|advertise) = .*\n" $config "" -}}
{{- end -}}
