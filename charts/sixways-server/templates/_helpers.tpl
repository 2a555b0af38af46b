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

{{- /* Whether the cluster has a definition: called with the root and GROUP/VERSION/KIND. */}}
{{- define "sixways.has" -}}
{{- if (index . 0).Capabilities.APIVersions.Has (index . 1) }}true{{ end -}}
{{- end }}

{{- /* Kinds that the values ask for and the cluster does not know. */}}
{{- define "sixways.leftOut" -}}
{{- $kinds := list }}
{{- if and (eq .Values.autoscaling.type "keda") (not (include "sixways.has" (list . "keda.sh/v1alpha1/ScaledObject"))) }}
{{- $kinds = append $kinds "ScaledObject" }}
{{- end }}
{{- if and .Values.httpRoute.enabled (not (include "sixways.has" (list . "gateway.networking.k8s.io/v1/HTTPRoute"))) }}
{{- $kinds = append $kinds "HTTPRoute" }}
{{- end }}
{{- if and .Values.monitoring.serviceMonitor.enabled (not (include "sixways.has" (list . "monitoring.coreos.com/v1/ServiceMonitor"))) }}
{{- $kinds = append $kinds "ServiceMonitor" }}
{{- end }}
{{- if and .Values.monitoring.rules.enabled (not (include "sixways.has" (list . "monitoring.coreos.com/v1/PrometheusRule"))) }}
{{- $kinds = append $kinds "PrometheusRule" }}
{{- end }}
{{- join "," $kinds }}
{{- end }}

{{- /* What scales: hpa, keda, or empty. Where KEDA is missing nothing does, and the Deployment has
       its number of pods itself. */}}
{{- define "sixways.autoscaler" -}}
{{- if eq .Values.autoscaling.type "hpa" -}}hpa
{{- else if and (eq .Values.autoscaling.type "keda") (include "sixways.has" (list . "keda.sh/v1alpha1/ScaledObject")) -}}keda
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

{{- /* What an ingress or a route lets through: the server's routes, but for /metrics, which needs no
       key and is Prometheus' alone. Words: the path, and whether it stands for all below it. */}}
{{- define "sixways.paths" -}}
{{- $below := list "/v1" "/v2" "/predict" "/invocations" "/version" "/openapi.json" "/ping" "/healthz" "/readyz" }}
{{- if .Values.server.graphql }}{{ $below = append $below "/graphql" }}{{ end }}
{{- $paths := list }}
{{- range $below }}{{ $paths = append $paths (dict "path" . "below" true) }}{{ end }}
{{- if .Values.server.console }}
{{- range list "/" "/console.json" }}{{ $paths = append $paths (dict "path" . "below" false) }}{{ end }}
{{- end }}
{{- toJson $paths }}
{{- end }}
