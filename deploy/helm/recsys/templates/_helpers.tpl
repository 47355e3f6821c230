{{- define "recsys.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "recsys.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "recsys.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "recsys.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ default (include "recsys.name" .) .Values.serviceAccount.name }}{{ else }}{{ default "default" .Values.serviceAccount.name }}{{ end }}
{{- end }}

{{- define "recsys.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "recsys.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "recsys.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Variables of one component: those of Kafka and Redis, then settings of all, then its own. Secrets are references. */}}
{{- define "recsys.env" -}}
{{- $v := .root.Values -}}
- {name: RECSYS_KAFKA__BOOTSTRAP_SERVERS, value: {{ $v.kafka.bootstrapServers | quote }}}
- {name: RECSYS_KAFKA__SECURITY_PROTOCOL, value: {{ $v.kafka.securityProtocol | quote }}}
{{- if hasPrefix "SASL" $v.kafka.securityProtocol }}
- {name: RECSYS_KAFKA__SASL_MECHANISM, value: {{ $v.kafka.saslMechanism | quote }}}
- name: RECSYS_KAFKA__SASL_USERNAME
  valueFrom: {secretKeyRef: {name: {{ required "kafka.credentialsSecret names the Secret with username and password" $v.kafka.credentialsSecret }}, key: username}}
- name: RECSYS_KAFKA__SASL_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ $v.kafka.credentialsSecret }}, key: password}}
{{- end }}
{{- if $v.kafka.caSecret }}
- {name: RECSYS_KAFKA__SSL_CAFILE, value: /etc/recsys/kafka/ca.crt}
{{- end }}
{{- if $v.redis.urlSecret }}
- name: RECSYS_REDIS__URL
  valueFrom: {secretKeyRef: {name: {{ $v.redis.urlSecret }}, key: url}}
{{- else }}
- {name: RECSYS_REDIS__URL, value: {{ $v.redis.url | quote }}}
{{- end }}
{{- if $v.redis.cluster }}
- {name: RECSYS_REDIS__CLUSTER, value: "true"}
{{- end }}
{{- if $v.redis.caSecret }}
- {name: RECSYS_REDIS__SSL_CA_CERTS, value: /etc/recsys/redis/ca.crt}
{{- end }}
- {name: RECSYS_METRICS__HOST, value: "0.0.0.0"}
- {name: RECSYS_METRICS__PORT, value: {{ $v.metrics.port | quote }}}
- {name: RECSYS_TRAINER__LOG_URL, value: {{ $v.storage.log.url | quote }}}
- {name: RECSYS_TRAINER__MODEL_URL, value: {{ $v.storage.models.url | quote }}}
{{- range $name, $value := merge (dict) (.own | default dict) $v.settings }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- range $v.secretSettings }}
- name: {{ .name }}
  valueFrom: {secretKeyRef: {name: {{ .secret }}, key: {{ .key }}}}
{{- end }}
{{- end }}

{{- define "recsys.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if .root.Values.kafka.caSecret }}
- {name: kafka-ca, mountPath: /etc/recsys/kafka, readOnly: true}
{{- end }}
{{- if .root.Values.redis.caSecret }}
- {name: redis-ca, mountPath: /etc/recsys/redis, readOnly: true}
{{- end }}
{{- if and .models (hasPrefix "/" .root.Values.storage.models.url) }}
- {name: models, mountPath: {{ .root.Values.storage.models.url }}, readOnly: {{ ne .models "write" }}}
{{- end }}
{{- if and .log (hasPrefix "/" .root.Values.storage.log.url) }}
- {name: log, mountPath: {{ .root.Values.storage.log.url }}}
{{- end }}
{{- end }}

{{- define "recsys.volumes" -}}
- name: tmp
  emptyDir: {sizeLimit: 1Gi}
{{- with .root.Values.kafka.caSecret }}
- name: kafka-ca
  secret: {secretName: {{ . }}}
{{- end }}
{{- with .root.Values.redis.caSecret }}
- name: redis-ca
  secret: {secretName: {{ . }}}
{{- end }}
{{- if and .models (hasPrefix "/" .root.Values.storage.models.url) }}
- name: models
  persistentVolumeClaim: {claimName: {{ .root.Values.storage.models.existingClaim | default (printf "%s-models" (include "recsys.name" .root)) }}}
{{- end }}
{{- if and .log (hasPrefix "/" .root.Values.storage.log.url) }}
- name: log
  persistentVolumeClaim: {claimName: {{ .root.Values.storage.log.existingClaim | default (printf "%s-log" (include "recsys.name" .root)) }}}
{{- end }}
{{- end }}

{{- define "recsys.probes" -}}
startupProbe:
  httpGet: {path: /live, port: metrics}
  periodSeconds: 5
  failureThreshold: 36
livenessProbe:
  httpGet: {path: /live, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /ready, port: metrics}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
{{- end }}

{{/* What all Pods share: account, security, where they run. */}}
{{- define "recsys.pod" -}}
serviceAccountName: {{ include "recsys.serviceAccount" .root }}
automountServiceAccountToken: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - {name: {{ . }}}
{{- end }}
{{- end }}
securityContext:
  {{- include "recsys.podSecurity" . | nindent 2 }}
{{- with .of.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .of.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .of.affinity }}
affinity: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}
