{{/* What both containers of the test share. */}}
{{- define "systir.testContainer" -}}
resources:
  requests:
    cpu: 100m
    memory: 128Mi
  limits:
    memory: 128Mi
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- if .Values.test.ca.name }}
volumeMounts:
  - name: ca
    mountPath: /etc/systir/ca
    readOnly: true
{{- end }}
{{- end -}}
