{{/* A pool with the defaults for what it does not set, as JSON: root, name. Sprig's merge would not let `false` and 0
override. */}}
{{- define "systir.pool" -}}
{{- $set := get .root.Values.pools .name | default dict -}}
{{- $pool := dict -}}
{{- range $field, $default := .root.Values.poolDefaults -}}
{{- if and (kindIs "map" $default) (eq $field "autoscaling") -}}
{{- $inner := dict -}}
{{- $given := get $set $field | default dict -}}
{{- range $name, $value := $default -}}
{{- $_ := set $inner $name (ternary (get $given $name) $value (hasKey $given $name)) -}}
{{- end -}}
{{- $_ := set $pool $field $inner -}}
{{- else -}}
{{- $_ := set $pool $field (ternary (get $set $field) $default (hasKey $set $field)) -}}
{{- end -}}
{{- end -}}
{{- toJson $pool -}}
{{- end -}}

{{/* The names of a pool's slots, as a JSON list: name, pool. */}}
{{- define "systir.slots" -}}
{{- $names := list -}}
{{- $first := int .pool.firstNode -}}
{{- range $index := until (int .pool.slots) -}}
{{- $names = append $names (printf "%s-%d" $.name (add $first $index)) -}}
{{- end -}}
{{- toJson $names -}}
{{- end -}}

{{/* The most nodes of a pool that can run: pool. */}}
{{- define "systir.most" -}}
{{- if eq .pool.autoscaling.kind "none" -}}
{{ int .pool.replicas }}
{{- else -}}
{{ int (.pool.autoscaling.max | default .pool.slots) }}
{{- end -}}
{{- end -}}
