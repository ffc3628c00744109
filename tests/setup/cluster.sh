# Which Kubernetes is used, and how it is brought up, given images and taken down. To be sourced after lib.sh.
# shellcheck shell=sh
#
# Sets KUBECONFIG to a file of its own with this one cluster in it, so that nothing here ever touches whatever kubectl happens to
# point to, and CHATCLUSTER_HOST_ADDRESS to the address at which pods reach servers of this machine.

kind_version=v0.30.0
kind_name=chatcluster

# The cluster's kind, in $cluster: context, kind or localkube.
cluster_choose() {
    if [ -n "${CHATCLUSTER_CONTEXT:-}" ]; then
        cluster=context
    elif docker info >/dev/null 2>&1; then
        cluster=kind
    else
        cluster=localkube
    fi
}

# Names of context, kind or localkube, for people.
cluster_title() {
    case $cluster in
        context) echo "the cluster of the context $CHATCLUSTER_CONTEXT" ;;
        kind) echo "kind, because Docker works" ;;
        localkube) echo "localkube, because there is no Docker" ;;
    esac
}

# The kubeconfig that belongs to the chosen cluster.
cluster_kubeconfig() {
    case $cluster in
        localkube) echo "$CHATCLUSTER_CACHE/localkube/admin.kubeconfig" ;;
        *) echo "$CHATCLUSTER_CACHE/$cluster.kubeconfig" ;;
    esac
}

cluster_is_up() {
    file=$(cluster_kubeconfig)
    [ -e "$file" ] && kubectl --kubeconfig "$file" get --raw=/readyz --request-timeout=5s >/dev/null 2>&1
}

# Writes the kubeconfig of the context that is named now: the last one may have been another.
cluster_point() {
    mkdir -p "$CHATCLUSTER_CACHE"
    (umask 077 && kubectl config view --raw --minify --flatten --context "$CHATCLUSTER_CONTEXT" >"$(cluster_kubeconfig)")
}

# Brings it up unless it is, and sets the environment.
cluster_up() {
    case $cluster in
        context)
            cluster_point
            cluster_is_up || fail "the cluster of the context $CHATCLUSTER_CONTEXT does not answer"
            ;;
        kind)
            command -v kind >/dev/null || GOBIN=$CHATCLUSTER_CACHE/bin go install "sigs.k8s.io/kind@$kind_version"
            cluster_is_up || kind create cluster --name "$kind_name" --kubeconfig "$(cluster_kubeconfig)" --wait 120s
            ;;
        localkube)
            tests/setup/install kubernetes
            tool localkube up
            ;;
    esac
    cluster_env
}

# Sets the environment of a cluster that is up.
cluster_env() {
    KUBECONFIG=$(cluster_kubeconfig)
    export KUBECONFIG
    case $cluster in
        context)
            [ -n "${CHATCLUSTER_HOST_ADDRESS:-}" ] ||
                fail "set CHATCLUSTER_HOST_ADDRESS to the address at which pods reach this machine"
            ;;
        kind)
            CHATCLUSTER_HOST_ADDRESS=$(docker network inspect kind --format '{{range .IPAM.Config}}{{println .Gateway}}{{end}}' |
                grep -m 1 -F .)
            ;;
        localkube)
            CHATCLUSTER_HOST_ADDRESS=$(tool localkube bridge-ip)
            CHATCLUSTER_AUDIT_LOG=$(tool localkube audit-log)
            # Its pods are on a bridge of this machine.
            CHATCLUSTER_PODS_ARE_ROUTED=yes
            export CHATCLUSTER_AUDIT_LOG CHATCLUSTER_PODS_ARE_ROUTED
            ;;
    esac
    export CHATCLUSTER_HOST_ADDRESS
}

cluster_down() {
    case $cluster in
        context) echo "the cluster of the context $CHATCLUSTER_CONTEXT is left as it is" ;;
        kind) kind delete cluster --name "$kind_name" --kubeconfig "$(cluster_kubeconfig)" ;;
        localkube) tool localkube down ;;
    esac
}

# What a namespace carries that was made here. In the cluster of somebody else nothing is touched outside of those.
made_here=chatcluster.dev/made-by

namespace_is_ours() {
    [ -n "$(kubectl get namespaces --selector "$made_here" --field-selector "metadata.name=$1" --output name)" ]
}

# Makes a namespace unless it is there.
namespace_take() {
    there=$(kubectl get namespace "$1" --ignore-not-found --output name)
    if [ -z "$there" ]; then
        echo "{apiVersion: v1, kind: Namespace, metadata: {name: $1, labels: {$made_here: make-run}}}" | kubectl create --filename -
    elif [ "$cluster" = context ] && ! namespace_is_ours "$1"; then
        fail "the namespace $1 was there before, and what is in it is not touched: delete it, or name another cluster by CHATCLUSTER_CONTEXT"
    fi
}

# Refuses a cluster of somebody else in which an operator outside of this namespace may act upon the same ChatClusters.
no_other_operator() {
    [ "$cluster" = context ] || return 0
    others=$(kubectl get deployments --all-namespaces --selector app.kubernetes.io/part-of=chatcluster \
        --field-selector "metadata.namespace!=$1" --output 'jsonpath={.items[*].metadata.namespace}')
    [ -z "$others" ] || fail "an operator of ChatClusters is there already, in $others: uninstall it, or name another cluster by CHATCLUSTER_CONTEXT"
}

# Makes what `images` has packed known to the cluster, and sets the names under which it knows them.
cluster_load_images() {
    images=$CHATCLUSTER_CACHE/images
    CHATCLUSTER_OPERATOR_IMAGE=$(cat "$images/chat-operator.name")
    CHATCLUSTER_NODE_IMAGE=$(cat "$images/chat-node.name")
    case $cluster in
        context)
            [ -n "${CHATCLUSTER_REGISTRY:-}" ] ||
                fail "set CHATCLUSTER_REGISTRY to a registry that the cluster pulls from, such as registry.example/chat"
            for program in chat-operator chat-node; do
                local_name=$(cat "$images/$program.name")
                docker load --quiet --input "$images/$program.tar"
                docker tag "$local_name" "$CHATCLUSTER_REGISTRY/$local_name"
                docker push --quiet "$CHATCLUSTER_REGISTRY/$local_name"
            done
            CHATCLUSTER_OPERATOR_IMAGE=$CHATCLUSTER_REGISTRY/$CHATCLUSTER_OPERATOR_IMAGE
            CHATCLUSTER_NODE_IMAGE=$CHATCLUSTER_REGISTRY/$CHATCLUSTER_NODE_IMAGE
            ;;
        kind)
            for program in chat-operator chat-node; do
                kind load image-archive --name "$kind_name" "$images/$program.tar"
            done
            ;;
        localkube) tool localkube load-image "$images/chat-operator.tar" "$images/chat-node.tar" ;;
    esac
    export CHATCLUSTER_OPERATOR_IMAGE CHATCLUSTER_NODE_IMAGE
}
