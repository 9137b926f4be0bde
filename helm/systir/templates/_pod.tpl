{{/* The ports of a node, as a JSON list: ports, workers, gateway. */}}
{{- define "systir.ports" -}}
{{- $all := list -}}
{{- if .gateway -}}
{{- $all = append $all (dict "name" "http" "number" .ports.http "protocol" "TCP") -}}
{{- end -}}
{{- if int .ports.iceTcp -}}
{{- $all = append $all (dict "name" "ice-tcp" "number" .ports.iceTcp "protocol" "TCP") -}}
{{- end -}}
{{- $all = append $all (dict "name" "grpc" "number" .ports.grpc "protocol" "TCP") -}}
{{- $all = append $all (dict "name" "metrics" "number" .ports.metrics "protocol" "TCP") -}}
{{- $all = append $all (dict "name" "quic" "number" .ports.quic "protocol" "UDP") -}}
{{- range $worker := until (int .workers) -}}
{{- $all = append $all (dict "name" (printf "media-%d" $worker) "number" (add (int $.ports.media) $worker) "protocol" "UDP") -}}
{{- end -}}
{{- toJson $all -}}
{{- end -}}

{{/* Resources and security of the small containers beside the relay. The pod is of QoS class Guaranteed only if they have
limits too: the pool. */}}
{{- define "systir.small" -}}
resources:
  requests:
    cpu: 100m
    memory: 64Mi
  limits:
    {{- if .cpuLimit }}
    cpu: 100m
    {{- end }}
    memory: 64Mi
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{/* The volume with the certificate of links or for etcd: volume, certificates, name (of the pool), root. */}}
{{- define "systir.certificateVolume" -}}
{{- if eq .certificates.source "secret" -}}
- name: {{ .volume }}
  secret:
    secretName: {{ printf "%s-%s" .certificates.secretName .name | quote }}
    defaultMode: 288 # 0440
{{- else if eq .certificates.source "spire" -}}
- name: {{ .volume }}
  emptyDir:
    medium: Memory
    sizeLimit: 1Mi
- name: spiffe-agent
  csi:
    driver: csi.spiffe.io
    readOnly: true
- name: spiffe-helper
  configMap:
    name: {{ include "systir.name" .root }}-spiffe-helper
{{- else -}}
- name: {{ .volume }}
  csi:
    driver: csi.cert-manager.io
    readOnly: true
    volumeAttributes:
      csi.cert-manager.io/issuer-name: {{ .certificates.issuer.name | quote }}
      csi.cert-manager.io/issuer-kind: {{ .certificates.issuer.kind | default "Issuer" | quote }}
      csi.cert-manager.io/issuer-group: {{ .certificates.issuer.group | default "cert-manager.io" | quote }}
      {{- if eq .volume "links" }}
      csi.cert-manager.io/uri-sans: {{ printf "spiffe://%s/relay/${POD_NAME}" (include "systir.trustDomain" .root) | quote }}
      csi.cert-manager.io/key-usages: digital signature,server auth,client auth
      {{- else }}
      csi.cert-manager.io/common-name: ${POD_NAME}
      csi.cert-manager.io/key-usages: digital signature,client auth
      {{- end }}
      csi.cert-manager.io/key-algorithm: ECDSA
      csi.cert-manager.io/key-encoding: PKCS8
      csi.cert-manager.io/reuse-private-key: "false"
      csi.cert-manager.io/duration: {{ .certificates.duration | quote }}
      csi.cert-manager.io/renew-before: {{ .certificates.renewBefore | quote }}
      csi.cert-manager.io/certificate-file: node.pem
      csi.cert-manager.io/privatekey-file: node.key
      csi.cert-manager.io/ca-file: ca.pem
      csi.cert-manager.io/fs-group: "10001"
{{- end -}}
{{- end -}}
