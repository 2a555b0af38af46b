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

{{- /* Minutes as Prometheus writes them: 60 is 1h. */}}
{{- define "sixways.promDuration" -}}
{{- if not (mod . 1440) -}}{{ div . 1440 }}d
{{- else if not (mod . 60) -}}{{ div . 60 }}h
{{- else -}}{{ . }}m
{{- end -}}
{{- end }}

{{- /* The requests up to the objective's latency in the window ${1}: between two bounds of the
       server's histogram, interpolated. */}}
{{- define "sixways.promWithin" -}}
{{- $seconds := divf .Values.monitoring.slo.latencyMs 1000 }}
{{- $bounds := list "0.002" "0.005" "0.01" "0.02" "0.04" "0.08" "0.1" "0.16" "0.25" "0.32" "0.5" "0.64" "1.0" "1.28" "2.0" "2.56" "5.0" "5.12" "10.0" "10.24" "20.48" "30.0" "40.96" "60.0" "81.92" }}
{{- $lower := "" }}
{{- $upper := "" }}
{{- range $bounds }}
{{- if lt (float64 .) $seconds }}{{ $lower = . }}{{ end }}
{{- if and (not $upper) (ge (float64 .) $seconds) }}{{ $upper = . }}{{ end }}
{{- end }}
{{- $upper = $upper | default $lower }}
{{- $rate := "sum by (model_name) (rate(gen_ai_server_request_duration_seconds_bucket{@OF@, le=\"%s\"}[${1}]))" }}
{{- if le (float64 $upper) $seconds -}}
{{ printf $rate $upper }}
{{- else -}}
{{- $from := float64 ($lower | default "0") }}
{{- $weight := divf (subf $seconds $from) (subf (float64 $upper) $from) -}}
({{ if $lower }}{{ printf "%.6g" (subf 1 $weight) }} * {{ printf $rate $lower }} + {{ end }}{{ printf "%.6g" $weight }} * {{ printf $rate $upper }})
{{- end -}}
{{- end }}

{{- /* A text of rules or dashboard with the objective in it: called with the root and the text. What
       the numbers are is in components/sixways/observability/prometheus.py, which this follows. */}}
{{- define "sixways.promFill" -}}
{{- $root := index . 0 }}
{{- $slo := $root.Values.monitoring.slo }}
{{- $text := regexReplaceAll "@WITHIN\\(([^)]*)\\)@" (index . 1) (include "sixways.promWithin" $root) }}
{{- $slow := subf 1 $slo.latencyQuantile }}
{{- range $long, $share := dict "12" 0.02 "72" 0.05 "288" 0.1 "864" 0.1 }}
{{- $rate := maxf 1 (divf (mulf $share $slo.periodDays 1440) (mulf (float64 $long) $slo.windowMinutes)) }}
{{- range $letter, $budget := dict "E" $slo.errorRate "L" $slow }}
{{- $most := minf (mulf $rate $budget) (divf (addf 1 $budget) 2) }}
{{- $text = replace (printf "@%s%s@" $letter $long) (printf "%.6g" $most) $text }}
{{- end }}
{{- end }}
{{- range list 1 6 12 24 72 288 864 }}
{{- $text = replace (printf "@W%d@" .) (include "sixways.promDuration" (mul . $slo.windowMinutes)) $text }}
{{- end }}
{{- $text
  | replace "@NAME@" (printf "%s/%s" $root.Release.Namespace (include "sixways.name" $root))
  | replace "@OF@" (include "sixways.promSelector" $root)
  | replace "@QUANTILE@" (printf "%.6g" (float64 $slo.latencyQuantile))
  | replace "@MILLISECONDS@" (printf "%.6g" (float64 $slo.latencyMs))
  | replace "@SECONDS@" (printf "%.6g" (divf $slo.latencyMs 1000))
  | replace "@ERRORS@" (printf "%.6g" (float64 $slo.errorRate))
  | replace "@PERCENT@" (printf "%.6g" (mulf $slo.errorRate 100))
  | replace "@RUNBOOK@" $root.Values.monitoring.rules.runbookUrl }}
{{- end }}

{{- /* What an ingress or a route lets through: the server's routes, but for /metrics, which needs no
       key and is Prometheus' alone. Words: the path, and whether it stands for all below it. */}}
{{- define "sixways.paths" -}}
{{- $below := list "/v1" "/v2" "/predict" "/invocations" "/version" "/openapi.json" "/docs" "/ping" "/healthz" "/readyz" }}
{{- if .Values.server.graphql }}{{ $below = append $below "/graphql" }}{{ end }}
{{- $paths := list }}
{{- range $below }}{{ $paths = append $paths (dict "path" . "below" true) }}{{ end }}
{{- if .Values.server.console }}
{{- range list "/" "/console.json" }}{{ $paths = append $paths (dict "path" . "below" false) }}{{ end }}
{{- end }}
{{- toJson $paths }}
{{- end }}
