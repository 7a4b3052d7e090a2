#!/usr/bin/env bash
# An authority of the operator's own, and certificates of it: certify.sh FOLDER NAME [HOST], certify.sh FOLDER revoke NAME
# NAME is a site, a consumer of the ACL, or with HOST the broker. Keep ca.key off the broker and off every site.
set -euo pipefail
folder=${1:?usage: $0 FOLDER NAME [HOST]} name=${2:?usage: $0 FOLDER NAME [HOST]}
mkdir -p "$folder" && cd "$folder"
umask 077

if [ ! -f ca.key ]; then
  printf '%s\n' '[ca]' 'default_ca = own' '[own]' 'database = index.txt' 'serial = serial' 'crlnumber = crlnumber' \
    'new_certs_dir = .' 'certificate = ca.crt' 'private_key = ca.key' 'default_md = sha256' 'default_crl_days = 365' \
    'default_days = 825' 'policy = named' 'copy_extensions = copy' 'unique_subject = no' \
    '[named]' 'commonName = supplied' >ca.cnf
  : >index.txt
  echo 01 | tee serial >crlnumber
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -out ca.crt \
    -subj '/CN=wildlane authority' -days 3650 2>/dev/null
fi
if [ "$name" = revoke ]; then
  openssl ca -config ca.cnf -revoke "${3:?usage: $0 FOLDER revoke NAME}.crt" 2>/dev/null
else
  # the broker takes the name into its rules: it must hold no wildcard and no slash
  [[ $name =~ ^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$ ]] || { echo "$name: expected a-z, 0-9 and '-'" >&2; exit 2; }
  extension=()
  if [ $# -gt 2 ]; then
    kind=DNS
    [[ $3 =~ ^[0-9.:]+$ ]] && kind=IP
    extension=(-addext "subjectAltName=$kind:$3")
  fi
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$name.key" -out "$name.csr" \
    -subj "/CN=$name" "${extension[@]}" 2>/dev/null
  openssl ca -config ca.cnf -batch -notext -in "$name.csr" -out "$name.crt" 2>/dev/null
  rm "$name.csr"
fi
openssl ca -config ca.cnf -gencrl -out ca.crl 2>/dev/null
chmod a+r ./*.crt ca.crl
