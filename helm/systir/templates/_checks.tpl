{{/* Refuses values that cannot work together, each with a sentence. values.schema.json has refused those that cannot work
alone. */}}
{{- define "systir.check" -}}
{{- include "systir.checkImage" . -}}
{{- include "systir.checkPins" . -}}
{{- include "systir.checkDocuments" . -}}
{{- include "systir.checkCertificates" . -}}
{{- include "systir.checkSignalling" . -}}
{{- include "systir.checkPorts" . -}}
{{- include "systir.checkTimes" . -}}
{{- include "systir.checkTest" . -}}
{{- if not .Values.pools -}}
{{- fail "pools: there is no pool, so there is no node" -}}
{{- end -}}
{{- range $name := keys .Values.pools | sortAlpha -}}
{{- $pool := include "systir.pool" (dict "root" $ "name" $name) | fromJson -}}
{{- include "systir.checkPool" (dict "root" $ "name" $name "pool" $pool) -}}
{{- end -}}
{{- end -}}

{{- define "systir.checkImage" -}}
{{- $image := .Values.image -}}
{{- if not $image.repository -}}
{{- fail "image.repository: set the image's repository" -}}
{{- end -}}
{{- if not $image.digest -}}
{{- if not $image.tag -}}
{{- fail "image.digest: set the image's digest, sha256:…, so that what runs is what you tested" -}}
{{- end -}}
{{- if not $image.allowTag -}}
{{- fail (printf "image.tag: whoever may push to the registry can change what %q is: set image.digest, or image.allowTag=true for a test" $image.tag) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "systir.checkPins" -}}
{{- $values := .Values -}}
{{- if not $values.cluster.name -}}
{{- fail "cluster.name: set the name of the cluster" -}}
{{- end -}}
{{- if not (hasKey $values.operators $values.cluster.operator) -}}
{{- fail (printf "cluster.operator: %q has no keys under operators" $values.cluster.operator) -}}
{{- end -}}
{{- if not $values.institutions -}}
{{- fail "institutions: pin the keys of at least one institution, else no room is served" -}}
{{- end -}}
{{- range $kind := list "apiKeys" "roomKeys" -}}
{{- range $name, $key := get $values $kind -}}
{{- if not (hasKey $values.institutions $key.institution) -}}
{{- fail (printf "%s.%s.institution: %q has no keys under institutions" $kind $name $key.institution) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $values.page.guestKey (not (hasKey $values.apiKeys $values.page.guestKey)) -}}
{{- fail (printf "page.guestKey: there is no API key %q under apiKeys" $values.page.guestKey) -}}
{{- end -}}
{{- if not $values.etcd.endpoints -}}
{{- fail "etcd.endpoints: set etcd's addresses; this chart installs no etcd" -}}
{{- end -}}
{{- if not $values.etcd.ca.name -}}
{{- fail "etcd.ca.name: set the ConfigMap that holds etcd's CA" -}}
{{- end -}}
{{- end -}}

{{- define "systir.checkDocuments" -}}
{{- $documents := .Values.documents -}}
{{- if and $documents.configMap $documents.notes -}}
{{- fail "documents: set either configMap or notes" -}}
{{- end -}}
{{- if not (or $documents.configMap $documents.notes) -}}
{{- fail "documents: set configMap, or notes with the signed directory, floor and bundles: without them no node starts" -}}
{{- end -}}
{{- range $file, $note := $documents.notes -}}
{{- if not (hasPrefix "systir.org/" $note) -}}
{{- fail (printf "documents.notes: %s is no signed document: its first line must begin with systir.org/" $file) -}}
{{- end -}}
{{- if not (regexMatch "\n— [^ ]+ [A-Za-z0-9+/=]+\n?$" $note) -}}
{{- fail (printf "documents.notes: %s is not signed (systirctl directory sign, systirctl policy sign)" $file) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "systir.checkCertificates" -}}
{{- $certificates := .Values.certificates -}}
{{- range $use := list "links" "etcd" -}}
{{- $one := get $certificates $use -}}
{{- if and (eq $one.source "secret") (not $one.secretName) -}}
{{- fail (printf "certificates.%s.secretName: set it, or another source" $use) -}}
{{- end -}}
{{- if and (eq $one.source "cert-manager") (not $one.issuer.name) -}}
{{- fail (printf "certificates.%s.issuer.name: set cert-manager's issuer, or another source" $use) -}}
{{- end -}}
{{- end -}}
{{- if and (eq $certificates.links.source "spire") (not $certificates.links.spire.helperImage) -}}
{{- fail "certificates.links.spire.helperImage: set the image of spiffe-helper, by digest" -}}
{{- end -}}
{{- if ne .Values.signalling.mode "terminated" -}}
{{- if not $certificates.http.secretName -}}
{{- fail "certificates.http.secretName: set the Secret with the certificate for clients" -}}
{{- end -}}
{{- if and (eq $certificates.http.source "cert-manager") (not (and $certificates.http.issuer.name .Values.signalling.hostnames)) -}}
{{- fail "certificates.http: source cert-manager needs issuer.name and signalling.hostnames" -}}
{{- end -}}
{{- end -}}
{{- if and $certificates.approverPolicy.enabled (ne $certificates.links.source "cert-manager") (ne $certificates.etcd.source "cert-manager") -}}
{{- fail "certificates.approverPolicy: neither links nor etcd have certificates of cert-manager" -}}
{{- end -}}
{{- end -}}

{{- define "systir.checkSignalling" -}}
{{- $signalling := .Values.signalling -}}
{{- if eq $signalling.mode "passthrough" -}}
{{- if not (and $signalling.hostnames $signalling.gateway.name) -}}
{{- fail "signalling: mode passthrough needs hostnames and gateway.name; without a Gateway use mode direct" -}}
{{- end -}}
{{- $gateways := 0 -}}
{{- range $name := keys .Values.pools -}}
{{- $pool := include "systir.pool" (dict "root" $ "name" $name) | fromJson -}}
{{- if $pool.gateway -}}
{{- $gateways = add $gateways 1 -}}
{{- end -}}
{{- end -}}
{{- if and .Values.pools (eq (int $gateways) 0) -}}
{{- fail "signalling: no pool has gateway=true, so nobody takes clients' connections" -}}
{{- end -}}
{{- end -}}
{{- if and (eq $signalling.mode "terminated") (not $signalling.proxySeesTokens) -}}
{{- fail "signalling.mode: with terminated, the machines of the proxy see tokens and all signalling, and no policy asks about them: set signalling.proxySeesTokens=true if every institution agreed" -}}
{{- end -}}
{{- if and $signalling.proxyProtocolFrom (eq $signalling.mode "direct") -}}
{{- fail "signalling.proxyProtocolFrom: with mode direct there is no proxy" -}}
{{- end -}}
{{- if and $signalling.proxySeesTokens (ne $signalling.mode "terminated") -}}
{{- fail "signalling.proxySeesTokens: it belongs to mode terminated only" -}}
{{- end -}}
{{- end -}}

{{- define "systir.checkPorts" -}}
{{- $ports := .Values.network.ports -}}
{{- $workers := 1 -}}
{{- range $name := keys .Values.pools -}}
{{- $pool := include "systir.pool" (dict "root" $ "name" $name) | fromJson -}}
{{- $workers = max $workers (int ($pool.workers | default 1)) -}}
{{- end -}}
{{- $taken := dict -}}
{{- range $port := include "systir.ports" (dict "ports" $ports "workers" $workers "gateway" true) | fromJsonArray -}}
{{- $key := printf "%s/%d" $port.protocol (int $port.number) -}}
{{- if gt (int $port.number) 65535 -}}
{{- fail (printf "network.ports.media: %d workers need one port each, and ports end at 65535" $workers) -}}
{{- end -}}
{{- if hasKey $taken $key -}}
{{- fail (printf "network.ports: %s and %s both use %s port %d" (get $taken $key) $port.name $port.protocol (int $port.number)) -}}
{{- end -}}
{{- $_ := set $taken $key $port.name -}}
{{- end -}}
{{- end -}}

{{- define "systir.checkTimes" -}}
{{- $drain := .Values.drain -}}
{{- $needed := add (int $drain.deadlineSeconds) (int $drain.sleepSeconds) 30 -}}
{{- if lt (int .Values.terminationGracePeriodSeconds) (int $needed) -}}
{{- fail (printf "terminationGracePeriodSeconds: %d is too short: drain.deadlineSeconds (%d), drain.sleepSeconds (%d) and 30 s to stop need %d" (int .Values.terminationGracePeriodSeconds) (int $drain.deadlineSeconds) (int $drain.sleepSeconds) (int $needed)) -}}
{{- end -}}
{{- if and .Values.metrics.podMonitor.enabled (ne .Values.metrics.address "host") -}}
{{- fail "metrics.podMonitor: Prometheus cannot reach 127.0.0.1 of a machine: set metrics.address=host and let a firewall admit only Prometheus, or scrape with an agent on each machine" -}}
{{- end -}}
{{- end -}}

{{- define "systir.checkTest" -}}
{{- $test := .Values.test -}}
{{- if $test.enabled -}}
{{- if not (hasKey .Values.apiKeys $test.apiKey) -}}
{{- fail (printf "test.apiKey: there is no API key %q under apiKeys; set it, or test.enabled=false" $test.apiKey) -}}
{{- end -}}
{{- if not $test.countries -}}
{{- fail "test.countries: list the countries in which the test's room may be, or set test.enabled=false" -}}
{{- end -}}
{{- if not (or $test.url .Values.signalling.hostnames) -}}
{{- fail "test.url: set it, or signalling.hostnames" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* One pool: root, name, pool. */}}
{{- define "systir.checkPool" -}}
{{- $values := .root.Values -}}
{{- $name := .name -}}
{{- $pool := .pool -}}
{{- $at := printf "pools.%s" $name -}}
{{- range $field := list "slots" "capacity" "workers" "nodeSelector" -}}
{{- if not (get $pool $field) -}}
{{- fail (printf "%s.%s: it is missing; set it" $at $field) -}}
{{- end -}}
{{- end -}}
{{- if gt (int $pool.replicas) (int $pool.slots) -}}
{{- fail (printf "%s.replicas: %d are more than the %d slots of the signed directory: sign a directory with more nodes first" $at (int $pool.replicas) (int $pool.slots)) -}}
{{- end -}}
{{- if gt (int $pool.workers) (int $pool.cpus) -}}
{{- fail (printf "%s.workers: %d media threads need as many cores, and cpus is %d" $at (int $pool.workers) (int $pool.cpus)) -}}
{{- end -}}
{{- include "systir.checkScaling" (dict "at" $at "pool" $pool "values" $values) -}}
{{- range $kind := list "apiKeys" "roomKeys" -}}
{{- range $key := get $pool $kind -}}
{{- if not (hasKey (get $values $kind) $key) -}}
{{- fail (printf "%s.%s: there is no %q under %s" $at $kind $key $kind) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $sealed := list -}}
{{- range $key := $pool.roomKeys -}}
{{- $sealed = append $sealed (get $values.roomKeys $key).institution -}}
{{- end -}}
{{- range $key := $pool.apiKeys -}}
{{- $institution := (get $values.apiKeys $key).institution -}}
{{- if not (has $institution $sealed) -}}
{{- fail (printf "%s.roomKeys: the pool holds the API key %q of %s and no room key of it, so it cannot find its rooms" $at $key $institution) -}}
{{- end -}}
{{- end -}}
{{- $slots := include "systir.slots" (dict "name" $name "pool" $pool) | fromJsonArray -}}
{{- include "systir.checkAddresses" (dict "at" $at "pool" $pool "slots" $slots "listen" $values.network.listen) -}}
{{- include "systir.checkDirectory" (dict "at" $at "slots" $slots "pool" $pool "values" $values) -}}
{{- end -}}

{{- define "systir.checkScaling" -}}
{{- $scaling := .pool.autoscaling -}}
{{- $at := printf "%s.autoscaling" .at -}}
{{- if ne $scaling.kind "none" -}}
{{- $most := int ($scaling.max | default .pool.slots) -}}
{{- if gt $most (int .pool.slots) -}}
{{- fail (printf "%s.max: %d are more than the %d slots of the signed directory: sign a directory with more nodes first" $at $most (int .pool.slots)) -}}
{{- end -}}
{{- if gt (int $scaling.min) $most -}}
{{- fail (printf "%s.min: %d is more than the most, %d" $at (int $scaling.min) $most) -}}
{{- end -}}
{{- if and (eq (int $scaling.min) 0) (ne $scaling.kind "keda") -}}
{{- fail (printf "%s.min: a HorizontalPodAutoscaler does not start from 0: use kind keda" $at) -}}
{{- end -}}
{{- if and (eq $scaling.kind "keda") (not $scaling.prometheus) -}}
{{- fail (printf "%s.prometheus: set the URL of Prometheus, which knows how full the nodes are" $at) -}}
{{- end -}}
{{- if not .values.metrics.podMonitor.enabled -}}
{{- fail (printf "%s: it needs the nodes' metrics with the labels of metrics.podMonitor: enable that" $at) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Addresses of the slots: at, pool, slots, listen. */}}
{{- define "systir.checkAddresses" -}}
{{- $at := .at -}}
{{- $pool := .pool -}}
{{- range $node := keys $pool.nodes | sortAlpha -}}
{{- if not (has $node $.slots) -}}
{{- fail (printf "%s.nodes: %q is no node of this pool; its nodes are %s" $at $node (join ", " $.slots)) -}}
{{- end -}}
{{- end -}}
{{- if and (eq $pool.addresses "host") $pool.nodes -}}
{{- fail (printf "%s.nodes: with addresses=host nodes advertise the machine's address; remove nodes" $at) -}}
{{- end -}}
{{- if eq $pool.addresses "nodes" -}}
{{- range $node := .slots -}}
{{- $one := get $pool.nodes $node | default dict -}}
{{- if not (and $one.media $one.links) -}}
{{- fail (printf "%s.nodes.%s: set media and links, the addresses at which clients and nodes reach it, or addresses=host for the pool" $at $node) -}}
{{- end -}}
{{- range $address := append $one.media $one.links -}}
{{- if and (contains ":" $address) (eq $.listen "0.0.0.0") -}}
{{- fail (printf "%s.nodes.%s: nothing listens on IPv6, and %s is advertised: set network.listen=[::]" $at $node $address) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The own operator's directory lists each slot, with prefixes that contain the address of its links, if it is among
documents.notes: at, slots, pool, values. */}}
{{- define "systir.checkDirectory" -}}
{{- $at := .at -}}
{{- $operator := printf "\noperator = %s\n" (toJson .values.cluster.operator) -}}
{{- range $file, $note := .values.documents.notes -}}
{{- if and (hasPrefix "systir.org/directory/" $note) (contains $operator $note) -}}
{{- range $node := $.slots -}}
{{- $id := printf "\nid = %s\n" (toJson $node) -}}
{{- if not (contains $id $note) -}}
{{- fail (printf "%s.slots: the signed directory (%s) does not list %s: sign a directory with it first" $at $file $node) -}}
{{- end -}}
{{- $address := (get $.pool.nodes $node | default dict).links | default "" -}}
{{- $listed := regexFind (printf "(?s)%s.*?prefixes = \\[[^\\]]*\\]" $id) $note -}}
{{- $prefixes := regexFindAll "[0-9]+\\.[0-9]+\\.[0-9]+\\.[0-9]+/[0-9]+" (regexFind "prefixes = \\[[^\\]]*\\]" $listed) -1 -}}
{{- if and (contains "." $address) (not (contains ":" $address)) -}}
{{- $inside := false -}}
{{- range $prefix := $prefixes -}}
{{- if eq (include "systir.inPrefix" (dict "address" $address "prefix" $prefix)) "yes" -}}
{{- $inside = true -}}
{{- end -}}
{{- end -}}
{{- if not $inside -}}
{{- fail (printf "%s.nodes.%s.links: %s is outside the prefixes that the signed directory (%s) lists for %s, so no node would dial it" $at $node $address $file $node) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* `yes` if a prefix contains an IPv4 address: address, prefix. IPv6 addresses are compared by the nodes only. */}}
{{- define "systir.inPrefix" -}}
{{- $parts := splitList "/" .prefix -}}
{{- $size := 1 -}}
{{- range until (int (sub 32 (atoi (last $parts)))) -}}
{{- $size = mul $size 2 -}}
{{- end -}}
{{- if eq (div (include "systir.ipv4" .address | int64) $size) (div (include "systir.ipv4" (first $parts) | int64) $size) -}}
yes
{{- end -}}
{{- end -}}

{{- define "systir.ipv4" -}}
{{- $number := 0 -}}
{{- range $part := splitList "." . -}}
{{- $number = add (mul $number 256) (atoi $part) -}}
{{- end -}}
{{- $number -}}
{{- end -}}
