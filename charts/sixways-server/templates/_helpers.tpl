{{- /* One release, one set of objects, all of that name. */}}
{{- define "sixways.name" -}}
{{ .Release.Name | trunc 53 | trimSuffix "-" }}
{{- end }}

{{- define "sixways.selector" -}}
app.kubernetes.io/name: sixways-server
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "sixways.labels" -}}
{{ include "sixways.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: sixways
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "sixways.metadata" -}}
name: {{ include "sixways.name" . }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "sixways.labels" . | nindent 2 }}
{{- end }}

{{- define "sixways.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "sixways.name" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end }}

{{- define "sixways.keysSecret" -}}
{{ .Values.apiKeys.existingSecret | default (printf "%s-keys" (include "sixways.name" .)) }}
{{- end }}

{{- /* What scales: hpa, keda, or empty. A ScaledObject that the cluster does not know is left out,
       and then the Deployment has its number of pods itself. */}}
{{- define "sixways.autoscaler" -}}
{{- if eq .Values.autoscaling.type "hpa" -}}hpa
{{- else if and (eq .Values.autoscaling.type "keda") (.Capabilities.APIVersions.Has "keda.sh/v1alpha1/ScaledObject") -}}keda
{{- end -}}
{{- end }}

{{- define "sixways.exposed" -}}
{{- if or .Values.ingress.enabled .Values.httpRoute.enabled }}true{{ end -}}
{{- end }}

{{- define "sixways.serviceType" -}}
{{- .Values.service.type | default (ternary "ClusterIP" "LoadBalancer" (eq (include "sixways.exposed" .) "true")) -}}
{{- end }}

{{- define "sixways.fetches" -}}
{{- range .Values.models }}{{ if .s3 }}true{{ end }}{{ end -}}
{{- end }}

{{- /* Where a model's bundle lies in the container. A fetched bundle is a folder below its mount,
       since it appears in one step. */}}
{{- define "sixways.bundlePath" -}}
{{- if .path }}{{ .path }}{{ else if .s3 }}/bundles/s3/{{ .name }}{{ else }}/bundles/image/{{ .name }}{{ end -}}
{{- end }}

{{- define "sixways.modelsJson" -}}
{{- $models := list }}
{{- range .Values.models }}
{{- $model := dict "name" .name "path" (include "sixways.bundlePath" .) "digest" .digest }}
{{- if .variant }}{{ $_ := set $model "variant" .variant }}{{ end }}
{{- $models = append $models $model }}
{{- end }}
{{- toJson $models }}
{{- end }}

{{- define "sixways.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- /* Which requests are the release's, in PromQL. */}}
{{- define "sixways.promSelector" -}}
namespace="{{ .Release.Namespace }}", service="{{ include "sixways.name" . }}"
{{- end }}
