{{/* Names and labels. */}}

{{- define "systir.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Labels that never change: a StatefulSet's selector is immutable, and a changed label of a pod would restart it. */}}
{{- define "systir.selector" -}}
app.kubernetes.io/name: systir
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "systir.labels" -}}
{{ include "systir.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end -}}

{{/* Labels of the pods of a pool: root, name. */}}
{{- define "systir.podLabels" -}}
{{ include "systir.selector" .root }}
app.kubernetes.io/component: relay
systir.org/pool: {{ .name | quote }}
{{- end -}}

{{- define "systir.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag }}
{{- end -}}
{{- end -}}

{{/* The ConfigMap of the signed documents. */}}
{{- define "systir.documents" -}}
{{- .Values.documents.configMap | default (printf "%s-documents" (include "systir.name" .)) -}}
{{- end -}}

{{- define "systir.priorityClass" -}}
{{- if .Values.priorityClass.name -}}
{{ .Values.priorityClass.name }}
{{- else if .Values.priorityClass.create -}}
{{ .Release.Namespace }}-{{ include "systir.name" . }}
{{- end -}}
{{- end -}}

{{- define "systir.testUrl" -}}
{{- .Values.test.url | default (printf "https://%s" (first (append .Values.signalling.hostnames ""))) -}}
{{- end -}}

{{- define "systir.trustDomain" -}}
{{- (get .Values.operators .Values.cluster.operator).trustDomain -}}
{{- end -}}
