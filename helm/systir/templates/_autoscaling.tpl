{{/* How many nodes a pool needs: those for the seats in use beyond the given share of all other pools' seats, and one more
while the ladder ends in refusals because all approved nodes are full: root, name, pool. */}}
{{- define "systir.wantedNodes" -}}
{{- $of := printf "namespace=%s" (toJson .root.Release.Namespace) -}}
{{- $others := printf "%s,systir_org_pool!=%s" $of (toJson .name) -}}
{{- $used := printf "(sum(systir_seats_used{%s}) or vector(0))" $of -}}
{{- $capacity := printf "(sum(systir_seats_capacity{%s}) or vector(0))" $others -}}
{{- $refused := printf "(sum(increase(systir_ladder_steps_total{%s,role=\"refuse\",reason=\"approved-full\"}[5m])) or vector(0))" $of -}}
{{- printf "ceil(clamp_min(%s - %s * %d / 100, 0) / %d) + (%s > bool 0)" $used $capacity (int .pool.autoscaling.fullPercent) (int64 .pool.capacity) $refused -}}
{{- end -}}

{{/* Nodes come at once and go one by one: the autoscaling of a pool. */}}
{{- define "systir.scalingBehavior" -}}
scaleUp:
  stabilizationWindowSeconds: 0
  policies:
    - type: Pods
      value: 4
      periodSeconds: 60
scaleDown:
  stabilizationWindowSeconds: {{ int .cooldownSeconds }}
  policies:
    - type: Pods
      value: 1
      periodSeconds: 300
{{- end -}}
